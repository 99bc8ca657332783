"""Curves drawn in the terminal, for work over ssh."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

from mlrs_cli.errors import UsageError
from mlrs_cli.report.series import PANELS, Line, panels_of

__all__ = ["terminal_text"]

MARKS = ("braille", "dot", "star", "x", "+", "o", "*")
COLORS = ("blue", "orange", "green", "magenta", "yellow", "cyan", "white")


def terminal_text(lines: Sequence[Line], width: int, height: int = 14, log: bool = False, color: bool = True) -> str:
    """The panels of `mlrs_cli.report.series.gather`'s lines as text.

    Args:
        lines: what to draw.
        width: columns of the terminal.
        height: rows of a panel.
        log: learning rate on a log axis.
        color: with escape codes; without them lines differ by their marks.

    Raises:
        UsageError: plotext is not installed; the sentence has the pip line.
    """
    if find_spec("plotext") is None:
        raise UsageError("--terminal needs a package that is not installed: pip install 'plotext<6'")
    import plotext

    parts = []
    for panel in panels_of(lines):
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(width, height)
        positive = True
        for number, line in enumerate(lines):
            if panel not in line.panels:
                continue
            band = line.panels[panel]
            positive &= all(v > 0 for v in band.mean)
            style = {"color": COLORS[number % len(COLORS)]} if color else {}
            mark = MARKS[0] if color else MARKS[number % len(MARKS)]
            plotext.plot(
                list(band.steps), list(band.mean), label=line.label if len(lines) > 1 else None, marker=mark, **style
            )
        if positive and (panel == "loss" or (panel == "lr" and log)):
            plotext.yscale("log")
        plotext.title(PANELS[panel])
        plotext.xlabel("update")
        text: str = plotext.build()
        parts.append(text if color else plotext.uncolorize(text))
    return os.linesep.join(parts)
