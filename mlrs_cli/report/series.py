"""What is drawn: runs, entries and hand-made schedules as lines over updates, several seeds as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrs_cli.errors import UsageError
from mlrs_cli.export.replay import LONGEST, entry_curve, replay, stretched
from mlrs_cli.labels import shown
from mlrs_cli.run import read_run
from mlrs_cli.schedules.named import NAMED
from mlrs_cli.zoo.entry import Entry
from mlrs_cli.zoo.reference import Reference, Resolved, parse, resolve

__all__ = ["PANELS", "Band", "Line", "gather", "panels_of", "running_mean"]

# panel → title of its axis
PANELS = {
    "lr": "learning rate",
    "loss": "training loss (nats)",
    "test": "test accuracy (%)",
    "validation": "validation accuracy (%)",
}
POINTS = 400  # of a line with many updates


def panels_of(lines: Sequence[Line]) -> list[str]:
    """The panels that any line has something for, in their order; an empty first one where nothing has happened yet."""
    return [panel for panel in PANELS if any(panel in line.panels for line in lines)] or ["lr"]


@dataclass(frozen=True)
class Band:
    """Mean over the seeds at each update, and the deviation (0 of a single seed)."""

    steps: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """One schedule on one task: a band per panel, and where its stages begin."""

    label: str
    seeds: int
    panels: dict[str, Band]
    stages: tuple[float, ...] = field(default=())


def gather(names: Sequence[str], budget: int | None = None, num_classes: int = 10) -> list[Line]:
    """The lines of run folders and schedules, in the order given; runs that differ only in their seed become one line.

    Args:
        names: run folders, finished or not, or references of schedules.
        budget: updates of the preview of a schedule; those it was learned in, or 1,000, by default.
        num_classes: of the preview.

    Raises:
        NotFoundError: neither a run nor a schedule of that name.
    """
    if not names:
        raise UsageError("nothing to draw: name a run folder or a schedule")
    budgets = [
        r.entry.config.learned_on.updates for r in map(learned, names) if r and r.entry and r.entry.config.learned_on
    ]
    shared = budget or (min(max(budgets), LONGEST) if budgets else 1000)
    groups: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(group_of(name), []).append(read_run(Path(name)) if is_run(name) else {"reference": name})
    lines: list[Line] = []
    folders: list[str] = []
    for members in groups.values():
        if "reference" in members[0]:
            lines += of_schedule(members[0]["reference"], shared, num_classes)
            folders += [""] * (len(lines) - len(folders))
        else:
            lines.append(of_runs(members))
            folders.append(Path(members[0]["path"]).name)
    return told_apart(shortened(lines), folders)


def is_run(name: str) -> bool:
    """Whether a name is a run folder."""
    return (Path(name) / "lr.csv").is_file()


def learned(name: str) -> Resolved | None:
    """The learned schedule of a name, if it is one."""
    if is_run(name) or name.partition(":")[0] in NAMED:
        return None
    reference: Reference = parse(name)
    return resolve(name) if reference else None


def group_of(name: str) -> str:
    """Runs of one group differ in their seed alone."""
    if not is_run(name):
        return f"schedule {name}"
    config = read_run(Path(name))["config"]
    settings = {
        k: v for k, v in config["settings"].items() if k not in ("seed", "device", "workers", "data_dir", "log")
    }
    return repr(sorted(settings.items(), key=lambda item: item[0]))


def of_runs(runs: Sequence[dict[str, Any]]) -> Line:
    """One line from the runs of a group."""
    settings = runs[0]["config"]["settings"]
    schedule = settings.get("schedule") or f"learning {settings.get('name')}"
    name = Path(schedule).name if schedule.startswith((".", "/")) else shown(schedule)
    label = f"{name} · {settings['model']} on {settings['dataset']}"
    panels = {}
    every = max(1, max(len(run["updates"]["step"]) for run in runs) // POINTS)
    for panel in ("lr", "loss"):
        columns = [thinned(run["updates"]["step"], run["updates"][panel], every, panel == "loss") for run in runs]
        panels[panel] = band(columns)
    for panel in ("test", "validation"):
        column = f"{panel}_accuracy"
        columns = [[(e["step"], 100 * e[column]) for e in run["epochs"] if column in e] for run in runs]
        panels[panel] = band(columns)
    return Line(label, len(runs), {k: b for k, b in panels.items() if b.steps})


def of_schedule(name: str, budget: int, num_classes: int) -> list[Line]:
    """A preview, and of an entry beside it the run in which it was learned, stretched to the same budget.

    The preview follows the loss curve the schedule was learned with; a hand-made one reads no loss.
    """
    resolved = resolve(name)
    losses = stretched(entry_curve(resolved.entry), budget) if resolved.entry else [1.0] * budget
    rates = replay(resolved.schedule, losses, num_classes)
    steps = [float(i + 1) for i in range(budget)]
    rate = band([thinned(steps, rates, max(1, budget // POINTS), False)])
    if resolved.entry is None:
        return [Line(resolved.label, 1, {"lr": rate})]
    stages = tuple(stage.start * budget for stage in resolved.entry.config.method.stages[1:])
    return [Line(resolved.label, 1, {"lr": rate}, stages), while_learned(resolved.label, resolved.entry, budget)]


def while_learned(label: str, entry: Entry, budget: int) -> Line:
    """Rates and losses of the runs in which an entry was learned, a mean and a band over its seeds."""
    curves = list(entry.curves().values())
    panels = {}
    for panel in ("lr", "loss"):
        every = max(1, max(len(curve["step"]) for curve in curves) // POINTS)
        stretch = budget / max(curve["step"][-1] for curve in curves)
        steps = [[step * stretch for step in curve["step"]] for curve in curves]
        columns = [thinned(s, curve[panel], every, panel == "loss") for s, curve in zip(steps, curves, strict=True)]
        panels[panel] = band(columns)
    return Line(f"{label} while it was learned", len(curves), panels)


def thinned(steps: Sequence[float], values: Sequence[float], every: int, mean: bool) -> list[tuple[float, float]]:
    """Every so many points, the last of each stretch or their mean; values that are not finite are left out."""
    out = []
    for end in range(every, len(steps) + 1, every):
        part = [v for v in values[end - every : end] if math.isfinite(v)]
        if part:
            out.append((steps[end - 1], sum(part) / len(part) if mean else part[-1]))
    return out


def band(columns: Sequence[Sequence[tuple[float, float]]]) -> Band:
    """Mean and sample deviation at the updates that every seed has."""
    tables = [dict(column) for column in columns]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    means, deviations = [], []
    for step in steps:
        values = [table[step] for table in tables]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0
        means.append(mean)
        deviations.append(spread)
    return Band(tuple(steps), tuple(means), tuple(deviations))


def shortened(lines: list[Line]) -> list[Line]:
    """Labels without the task where every line has the same one; with the number of seeds."""
    tasks = {line.label.partition(" · ")[2] for line in lines}
    out = []
    for line in lines:
        label = line.label.partition(" · ")[0] if len(tasks) == 1 and len(lines) > 1 else line.label
        seeds = f" ({line.seeds} seeds)" if line.seeds > 1 else ""
        out.append(Line(label + seeds, line.seeds, line.panels, line.stages))
    return out


def told_apart(lines: list[Line], folders: list[str]) -> list[Line]:
    """Labels with the run folder where two lines would have the same."""
    labels = [line.label for line in lines]
    return [
        replace(line, label=f"{line.label} [{folder}]") if folder and labels.count(line.label) > 1 else line
        for line, folder in zip(lines, folders, strict=True)
    ]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each `window` consecutive values; len(values) − window + 1 numbers."""
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]
