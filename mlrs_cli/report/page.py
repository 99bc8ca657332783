"""One HTML page with everything inside: hover for values, click a name to switch a line, a button for the log axis."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlrs_cli.errors import UsageError
from mlrs_cli.files import write_text
from mlrs_cli.report.figures import COLORS
from mlrs_cli.report.series import PANELS, Line, panels_of

__all__ = ["write_page"]

DASHES = ("solid", "dash", "dot", "dashdot")


def write_page(lines: Sequence[Line], path: Path, log: bool = False) -> Path:
    """Write the page of `mlrs_cli.report.series.gather`'s lines; it needs no network to be read.

    Args:
        lines: what to draw.
        path: of the page.
        log: learning rate on a log axis to begin with.

    Raises:
        UsageError: plotly is not installed; the sentence has the pip line.
    """
    if find_spec("plotly") is None:
        raise UsageError("a page needs a package that is not installed: pip install plotly")
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    panels = panels_of(lines)
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    named: set[int] = set()
    for row, panel in enumerate(panels, start=1):
        for number, line in enumerate(lines):
            if panel in line.panels:
                for trace in traces(line, panel, number, number not in named):
                    figure.add_trace(Scatter(trace), row=row, col=1)
                named.add(number)
        kind = "log" if panel == "loss" or (panel == "lr" and log) else "linear"
        figure.update_yaxes(title_text=PANELS[panel], type=kind, row=row, col=1)
    figure.update_xaxes(title_text="update", row=len(panels), col=1)
    buttons = [
        {"label": f"learning rate: {kind}", "method": "relayout", "args": [{"yaxis.type": kind}]}
        for kind in ("linear", "log")
    ]
    menu = {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "x": 0,
        "xanchor": "left",
        "y": 1.0,
        "yanchor": "bottom",
        "active": int(log),
    }
    figure.update_layout(
        template="plotly_white",
        height=260 * len(panels) + 120,
        hovermode="x unified",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        updatemenus=[menu],
        margin={"t": 90},
    )
    html: str = figure.to_html(include_plotlyjs=True, full_html=True, div_id="curves", config={"displaylogo": False})
    write_text(path, html.replace("<head>", "<head><title>mlrs: learning-rate curves</title>", 1))
    return path


def traces(line: Line, panel: str, number: int, in_legend: bool) -> list[dict[str, Any]]:
    """A line, and under it the shade of one deviation to each side; a click in the legend switches both."""
    band = line.panels[panel]
    color, group = COLORS[number % len(COLORS)], str(number)
    mean = {
        "x": band.steps,
        "y": band.mean,
        "name": line.label,
        "legendgroup": group,
        "showlegend": in_legend,
        "line": {"color": color, "dash": DASHES[number // len(COLORS) % len(DASHES)], "width": 2},
        "mode": "lines+markers" if len(band.steps) < 30 else "lines",
    }
    if not any(band.deviation):
        return [mean]
    pairs = list(zip(band.mean, band.deviation, strict=True))
    shade = {
        "x": (*band.steps, *reversed(band.steps)),
        "y": (*(m + d for m, d in pairs), *(m - d for m, d in reversed(pairs))),
        "legendgroup": group,
        "showlegend": False,
        "hoverinfo": "skip",
        "fill": "toself",
        "fillcolor": color,
        "opacity": 0.2,
        "mode": "none",
    }
    return [shade, mean]
