"""Pictures of runs. Needs matplotlib, not torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlrs_cli.files import replacing
from mlrs_cli.run import read_run

__all__ = ["draw_run"]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's colours, told apart by the colour-blind


def draw_run(path: Path, picture: Path) -> Path:
    """Learning rate, training loss and accuracy of a run, one above the other; returns the picture's path."""
    from matplotlib.figure import Figure

    run = read_run(path)
    steps, losses, rates = (run["updates"][name] for name in ("step", "loss", "lr"))
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    rate, loss, accuracy = figure.subplots(3, 1, sharex=True)
    marker = "." if len(steps) < 2 else None

    rate.plot(steps, rates, color=BLUE, linewidth=1.2, marker=marker)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    window = len(losses) // 100
    if window > 1:
        loss.plot(steps, losses, color=GREY, linewidth=0.5, label="each update")
        loss.plot(
            steps[window - 1 :], running_mean(losses, window), color=BLUE, linewidth=1.2, label=f"mean of {window}"
        )
        loss.legend(frameon=False, fontsize="small")
    else:
        loss.plot(steps, losses, color=BLUE, linewidth=1.2, marker=marker)
    loss.set_ylabel("training loss (nats)")
    if any(value > 0 for value in losses):
        loss.set_yscale("log")
    for split, color in (("validation", ORANGE), ("test", BLUE)):
        points = [(e["step"], 100 * e[f"{split}_accuracy"]) for e in run["epochs"] if f"{split}_accuracy" in e]
        if points:
            accuracy.plot(*zip(*points, strict=True), color=color, linewidth=1.2, marker=".", label=split)
            accuracy.legend(frameon=False, fontsize="small")
    accuracy.set_ylabel("accuracy (%)")
    accuracy.set_xlabel("update")
    for axes in (rate, loss, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title_of(run), fontsize="medium")
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=150)
    return picture


def title_of(run: dict[str, Any]) -> str:
    """What was run, in one line."""
    settings = run["config"]["settings"]
    schedule = settings.get("schedule") or f"learning {settings.get('name')}"
    return f"{schedule} · {settings['model']} on {settings['dataset']}"


def running_mean(values: list[float], window: int) -> list[float]:
    """Mean of each `window` consecutive values; len(values) − window + 1 numbers."""
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]
