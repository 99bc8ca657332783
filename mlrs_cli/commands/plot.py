"""`mlrs plot`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlrs_cli.commands.display import print_json, print_table
from mlrs_cli.commands.options import Json
from mlrs_cli.errors import UsageError

EXAMPLES = [
    "mlrs plot cifar10-resnet18",
    "mlrs plot cifar10-resnet18 cosine:lr=0.3 knee:lr=0.3 --budget 2000 --output schedules.svg",
]
ENDINGS = (".png", ".svg", ".pdf", ".html")


def command(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN|REF...", help="Run folders, finished or not, and schedules.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG, SVG, PDF or HTML file. \\[default: curves.png]")
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Draw in the terminal and write nothing.")] = False,
    budget: Annotated[int | None, typer.Option(min=1, help="Updates of the preview of a schedule.")] = None,
    num_classes: Annotated[int, typer.Option(min=2, help="Classes of the preview's task.")] = 10,
    log: Annotated[bool, typer.Option("--log", help="Learning rate on a log axis.")] = False,
    as_json: Json = False,
) -> None:
    """Draw learning rate, training loss and accuracy of runs and schedules.

    Runs that differ only in their seed become a mean and a band. Nothing is opened; the path is printed.
    """
    from mlrs_cli.report.series import gather

    path = output or Path("curves.png")
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--output ends in {', '.join(ENDINGS)}, got '{path.name}'")
    if terminal and (as_json or output):
        raise UsageError("--terminal writes no file and no JSON: drop --output and --json, or --terminal")
    lines = gather(names, budget, num_classes)
    if terminal:
        from mlrs_cli.report.terminal import terminal_text

        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        typer.echo(terminal_text(lines, shutil.get_terminal_size().columns, log=log, color=color))
        return
    if path.suffix.lower() == ".html":
        from mlrs_cli.report.page import write_page

        write_page(lines, path, log)
    else:
        from mlrs_cli.report.figures import draw_lines

        draw_lines(lines, path, log)
    if as_json:
        print_json({"path": str(path), "lines": [line.label for line in lines]})
    else:
        print_table("drawn", {"lines": ", ".join(line.label for line in lines), "to": path})
