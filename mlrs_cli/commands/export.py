"""`mlrs export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrs_cli.commands.display import print_json, print_table
from mlrs_cli.commands.options import Json, complete_schedule

EXAMPLES = [
    "mlrs export cifar10-resnet18 --format csv --budget 1000",
    "mlrs export cifar10-resnet18 --format python --output schedule.py",
    "mlrs export cosine:lr=0.1 --format json --budget 100",
]


def command(
    ref: Annotated[str, typer.Argument(help="A schedule, as for mlrs transfer.", autocompletion=complete_schedule)],
    format: Annotated[str, typer.Option("--format", "-f", help="csv, json, python, onnx, torch, optax or hub.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. \\[default: named after REF]")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Updates of a table. \\[default: those it was learned in]")
    ] = None,
    loss_curve: Annotated[
        Path | None,
        typer.Option(help="For a table: CSV with a column loss, or a run folder. \\[default: the entry's own]"),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=2, help="For a table: classes of the task. \\[default: those of the run, or 10]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a schedule elsewhere.

    csv and json are tables of rates for a budget and a loss curve; python is one file without dependencies; onnx and torch
    are graphs (state and loss in, rate and state out); optax is a JAX transformation; hub is the folder to upload.
    """
    from mlrs_cli.export.export import export

    path = export(ref, format, output, budget, loss_curve, num_classes)
    if as_json:
        print_json({"path": str(path), "format": format})
    else:
        print_table("exported", {"schedule": ref, "format": format, "to": path})
