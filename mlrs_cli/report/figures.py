"""Pictures of lines and runs with matplotlib. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlrs_cli.files import replacing
from mlrs_cli.labels import shown
from mlrs_cli.report.series import PANELS, Band, Line, panels_of, running_mean
from mlrs_cli.run import read_run

__all__ = ["COLORS", "draw_lines", "draw_run"]

# Okabe and Ito's colours, told apart by the colour-blind; dashes tell lines apart without colour, from the eighth on.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#999999"
STYLES = ("-", "--", ":", "-.")
WIDTH = 5.5  # inches: a column, or the width of a page of text


def draw_lines(lines: Sequence[Line], picture: Path, log: bool = False) -> Path:
    """One panel per quantity, one line per schedule, mean and deviation of several seeds; returns the picture's path.

    Args:
        lines: from `mlrs_cli.report.series.gather`.
        picture: its ending chooses PNG, SVG or PDF.
        log: learning rate on a log axis.
    """
    from matplotlib.figure import Figure

    panels = panels_of(lines)
    if "test" in panels and "validation" in panels:
        panels.remove("validation")
    rows = -(-len(lines) // 2)
    figure = Figure(figsize=(WIDTH, 1.7 * len(panels) + 0.4 + 0.2 * rows), layout="constrained")
    every_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(every_axes, panels, strict=True):
        for number, line in enumerate(lines):
            if panel in line.panels:
                draw_band(axes, line.panels[panel], line.label, number)
            for start in line.stages if panel == "lr" else ():
                axes.axvline(start, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        dress(axes, panel, log)
    every_axes[-1].set_xlabel("update")
    figure.align_ylabels()
    handles: dict[str, Any] = {}
    for axes in every_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    longest = max((len(label) for label in handles), default=0)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper left",
        ncols=2 if longest < 40 else 1,
        frameon=False,
        fontsize="small",
    )
    save(figure, picture)
    return picture


def draw_band(axes: Any, band: Band, label: str, number: int) -> None:
    """Mean as a line, one deviation to each side as a shade."""
    color = COLORS[number % len(COLORS)]
    style = STYLES[number // len(COLORS) % len(STYLES)]
    marker = "." if len(band.steps) < 30 else None
    axes.plot(
        band.steps, band.mean, color=color, linestyle=style, linewidth=1.2, marker=marker, markersize=4, label=label
    )
    if any(band.deviation):
        low = [m - d for m, d in zip(band.mean, band.deviation, strict=True)]
        high = [m + d for m, d in zip(band.mean, band.deviation, strict=True)]
        axes.fill_between(band.steps, low, high, color=color, alpha=0.2, linewidth=0)


def dress(axes: Any, panel: str, log: bool) -> None:
    """Title, scale and frame of a panel."""
    axes.set_ylabel(PANELS[panel])
    positive = any(v > 0 for line in axes.lines for v in line.get_ydata())
    if positive and (panel == "loss" or (panel == "lr" and log)):
        axes.set_yscale("log")
        plain_ticks(axes)
    elif panel == "lr":
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def plain_ticks(axes: Any) -> None:
    """Plain numbers on a log axis of few decades: 0.5, 1, 2 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 1000:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_run(path: Path, picture: Path) -> Path:
    """Learning rate, training loss and both accuracies of one run, one above the other; returns the picture's path."""
    from matplotlib.figure import Figure

    run = read_run(path)
    steps, losses, rates = (run["updates"][name] for name in ("step", "loss", "lr"))
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    rate, loss, accuracy = figure.subplots(3, 1, sharex=True)
    marker = "." if len(steps) < 2 else None

    rate.plot(steps, rates, color=COLORS[0], linewidth=1.2, marker=marker)
    window = len(losses) // 100
    if window > 1:
        loss.plot(steps, losses, color=GREY, linewidth=0.5, label="each update")
        smooth = running_mean(losses, window)
        loss.plot(steps[window - 1 :], smooth, color=COLORS[0], linewidth=1.2, label=f"mean of {window}")
        loss.legend(frameon=False, fontsize="small")
    else:
        loss.plot(steps, losses, color=COLORS[0], linewidth=1.2, marker=marker)
    for split, color in (("validation", COLORS[1]), ("test", COLORS[0])):
        points = [(e["step"], 100 * e[f"{split}_accuracy"]) for e in run["epochs"] if f"{split}_accuracy" in e]
        if points:
            accuracy.plot(*zip(*points, strict=True), color=color, linewidth=1.2, marker=".", label=split)
            accuracy.legend(frameon=False, fontsize="small")
    dress(rate, "lr", log=False)
    dress(loss, "loss", log=False)
    dress(accuracy, "test", log=False)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.set_xlabel("update")
    figure.align_ylabels()
    figure.suptitle(title_of(run), fontsize="medium")
    save(figure, picture)
    return picture


def save(figure: Any, picture: Path) -> None:
    """Write a picture whole or not at all, the same bytes for the same picture."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(picture.suffix[1:].lower())
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "mlrs"}), replacing(picture) as temporary:
        figure.savefig(temporary, dpi=150, metadata=metadata)


def title_of(run: dict[str, Any]) -> str:
    """What was run, in one line."""
    settings = run["config"]["settings"]
    schedule = shown(settings["schedule"]) if settings.get("schedule") else f"learning {settings.get('name')}"
    return f"{schedule} · {settings['model']} on {settings['dataset']}"
