"""A comparison as files: tables, a page of Markdown, pictures. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrs_cli.compare.regret import NEAR
from mlrs_cli.files import write_json, write_text
from mlrs_cli.labels import shown
from mlrs_cli.report.figures import COLORS, GREY, save

__all__ = ["draw_curves", "draw_regret", "markdown", "summary_table", "task_table", "write_report"]

VERSIONS = ("mlrs", "python", "torch", "torchvision", "schedulefree", "prodigyopt", "dadaptation")
LONGEST = 40  # letters of a name in a picture
RECONSTRUCTION = " LRTuner is a reconstruction from its abstract, not the authors' code."
MARKED = 5  # schedules that have a colour among the curves


def write_report(result: Mapping[str, Any], folder: Path) -> None:
    """Write a comparison: results.json, results.csv with one row a run, README.md and two pictures."""
    write_json(folder / "results.json", {k: v for k, v in result.items() if k != "runs"})
    text = io.StringIO()
    table = csv.DictWriter(text, list(result["runs"][0]), lineterminator="\n")
    table.writeheader()
    table.writerows(result["runs"])
    write_text(folder / "results.csv", text.getvalue())
    markdown(result, folder / "README.md")
    draw_regret(result, folder / "regret.png")
    draw_curves(result, folder / "curves.png")


def summary_table(result: Mapping[str, Any], brief: bool = False) -> list[dict[str, str]]:
    """One row a schedule, the best first; `brief` fits 80 columns."""
    rows = []
    for row in result["summary"]:
        cells = {"schedule": shown(row["schedule"])}
        if result["tune"] == "grid":
            half = "" if row["interval"] is None else f" ± {row['interval']:.2f}"
            cells |= {
                "mean regret": f"{row['mean_regret']:+.2f}{half}",
                "worst": f"{row['worst_regret']:+.2f}" + ("" if brief else f" ({row['worst_task']})"),
                "within 0.5": f"{row['within']:.0%}",
            }
        if not brief or result["tune"] == "none":
            cells["error"] = f"{row['mean_error']:.2f}"
        cells["diverged"] = f"{row['diverged']}/{row['runs']}"
        if not brief:
            cells |= {"+ forward": f"{row['forward']:.2f}", "+ backward": f"{row['backward']:.2f}"}
            cells["seconds"] = f"{row['seconds']:.1f}"
        rows.append({**cells, "time": f"{row['time']:.2f}"})
    return rows


def task_table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row a schedule, one column a task: regret and half its 95 % interval, or error and deviation."""
    cells = {(row["schedule"], row["task"]): row for row in result["rows"]}
    return [
        {
            "schedule": shown(row["schedule"]),
            **{t["name"]: cell(cells[row["schedule"], t["name"]]) for t in result["tasks"]},
        }
        for row in result["summary"]
    ]


def cell(row: Mapping[str, Any]) -> str:
    """One schedule on one task."""
    mark = f" ({row['diverged']} div.)" if row["diverged"] else ""
    if row["regret"] is None:
        return with_spread(row) + mark
    half = "" if row["interval"] is None else f" ± {row['interval']:.1f}"
    return f"{row['regret']:+.2f}{half}{mark}"


def with_spread(row: Mapping[str, Any]) -> str:
    """Mean test error and its standard deviation over seeds, if there are several."""
    return f"{row['error']:.2f}" + (f" ± {row['std']:.2f}" if len(row["errors"]) > 1 else "")


def tuned_table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """What tuning found on each task."""
    rows = []
    for task in result["tasks"]:
        optimizer = task.get("optimizer", "sgd")
        momentum = f", momentum {task['momentum']:g}" if task.get("momentum") else ""
        row = {
            "task": task["name"],
            "model": task["model"],
            "data": task["dataset"],
            "optimizer": f"{optimizer}{momentum}",
            "updates": f"{task['updates']:,}",
        }
        if "tuned" in task:
            found = task["tuned"]
            edge = " (at the grid's edge)" if found["on_edge"] else ""
            row["best of the grid"] = found["schedule"] + edge + (" (diverged)" if found["diverged"] else "")
            row["its test error (%)"] = with_spread(found)
        rows.append(row)
    return rows


def markdown(result: Mapping[str, Any], path: Path) -> None:
    """The report as one page beside its pictures."""
    facts = result["environment"]
    versions = ", ".join(f"{n} {facts[n]}" for n in VERSIONS if facts.get(n))
    seeds = ", ".join(map(str, result["seeds"]))
    commits = ", ".join(short(text) for text in str(facts["commit"]).split(" / ")) if facts.get("commit") else "none"
    grid = result["tune"] == "grid"
    lines = [
        "# Schedules compared",
        "",
        f"`{result['command']}`",
        "",
        f"{result['date']}; seeds {seeds}; {versions}; {'; '.join(result['machines'])}, {result['processes']} runs at a time; "
        f"commit {commits}, code {result['code'][:12]}.",
        "",
    ]
    if grid:
        lines += [
            "Regret: test error of a schedule minus that of the best of the grid (7 peak rates over 3 "
            "decades × 4 shapes: the whole grid on the first seed, its best four on every seed, chosen by validation "
            "accuracy), in points, mean over seeds; ± is half of the 95 % interval over seeds, paired, for the schedule that was "
            "chosen. `within 0.5`: share of the tasks on which the regret is at most 0.5.",
            "",
        ]
    lines += [
        "`error`: mean test error (%), a run that diverged counting as a guess. `+ forward`, `+ backward`: extra passes an "
        "update, measuring included. `seconds`: of a run's updates, without measuring. `time`: of an update, against cosine "
        "on the same task. Cosine, linear and fixed have the usual rate of "
        "their optimizer (0.1; Adam and AdamW 0.001), as has `lr=usual`; what a name does not set is the method's default."
        + (
            " The runs are of several machines, whose seconds say little beside each other."
            if len(result["machines"]) > 1
            else ""
        )
        + (RECONSTRUCTION if any(row["schedule"].startswith("lrtuner") for row in result["rows"]) else ""),
        "",
    ]
    lines += [*as_markdown(summary_table(result)), ""]
    lines += ["## Tasks", "", *as_markdown(tuned_table(result)), ""]
    lines += [
        "## Regret on each task (points, ± half of the 95 % interval over seeds)"
        if grid
        else "## Test error on each task (%)",
        "",
        *as_markdown(task_table(result)),
        "",
    ]
    lines += ["![regret](regret.png)", "", "![validation accuracy](curves.png)", ""]
    learners = dict.fromkeys(row["label"] for row in result["rows"] if row["held_out"])
    if learners:
        lines += [
            f"The validation split, whose accuracy is drawn, is also what {', '.join(learners)} learned from.",
            "",
        ]
    lines += ["`results.json` holds all of this, `results.csv` every run."]
    write_text(path, "\n".join(lines) + "\n")


def short(commit: str) -> str:
    """A commit as it is shown.

    >>> short("0123456789abcdef-dirty")
    '0123456789ab-dirty'
    """
    return commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")


def as_markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A table of rows with the same keys."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |"

    return [line(rows[0]), f"|{'---|' * len(rows[0])}", *(line(row.values()) for row in rows)]


def drawn(name: str) -> str:
    """A name as matplotlib takes it: short, and no formula; a leading underscore would hide it."""
    text = shown(name)
    return (text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…").replace("$", r"\$").lstrip("_")


def draw_regret(result: Mapping[str, Any], picture: Path) -> Path:
    """Regret of each schedule (a row, the best on top) on each task (a dot), and its mean; test error without a grid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    tuned = result["tune"] == "grid"
    names = [row["schedule"] for row in result["summary"]]
    tasks = [task["name"] for task in result["tasks"]]
    figure = Figure(figsize=(7.5, 1.4 + 0.3 * len(names) + 0.12 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    markers = "osD^v<>Ph*X"
    for number, task in enumerate(tasks):
        rows = {row["schedule"]: row for row in result["rows"] if row["task"] == task}
        values = [rows[name]["regret"] if tuned else rows[name]["error"] for name in names]
        color = COLORS[number % len(COLORS)]
        (dots,) = axes.plot(values, range(len(names)), markers[number % len(markers)], color=color, label=drawn(task))
        dots.set(markersize=5, alpha=0.8, clip_on=False)
    means = [row["mean_regret"] if tuned else row["mean_error"] for row in result["summary"]]
    axes.plot(means, range(len(names)), "|", color="black", markersize=16, markeredgewidth=2, label="mean")
    if tuned:
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_xscale("symlog", linthresh=1, linscale=0.6)
        ends = axes.get_xlim()
        axes.axvspan(ends[0], NEAR, color=GREY, alpha=0.2, linewidth=0)
        axes.set_xlim(*ends)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.set_yticks(range(len(names)), [drawn(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(f"regret (points of test accuracy); grey: at most {NEAR:g}" if tuned else "test error (%)")
    axes.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    save(figure, picture)
    return picture


def draw_curves(result: Mapping[str, Any], picture: Path) -> Path:
    """Validation accuracy against updates, a panel a task: the tuned rival, cosine, the best few; the others in grey."""
    from matplotlib.figure import Figure

    tasks = result["tasks"]
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(max(2.6 * columns + 0.4, 5.0), 2.0 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    ranked = [row["schedule"] for row in result["summary"]]
    marked = ["cosine", *[name for name in ranked if name != "cosine"][:MARKED]]
    for axes, task in zip(panels, tasks, strict=False):
        own = {row["schedule"]: row["curve"] for row in result["rows"] if row["task"] == task["name"]}
        for name in ranked:
            if own[name] and name not in marked:
                axes.plot(*zip(*own[name], strict=True), color=GREY, linewidth=0.5, alpha=0.6)
        for number, name in enumerate(marked):
            if own.get(name):
                axes.plot(*zip(*own[name], strict=True), color=COLORS[number], linewidth=1.2, label=drawn(name))
        if "tuned" in task and task["tuned"]["curve"]:
            points = zip(*task["tuned"]["curve"], strict=True)
            axes.plot(*points, color="black", linewidth=1.6, linestyle="--", label="best of the grid")
        axes.set_title(drawn(task["name"]), fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in panels[: len(tasks)]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=min(columns + 1, 4),
        frameon=False,
        fontsize="small",
    )
    figure.supxlabel("update", fontsize="small")
    figure.supylabel("validation accuracy (%)", fontsize="small")
    save(figure, picture)
    return picture
