"""`mlrs export` as a function."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlrs_cli.errors import UsageError, nearest
from mlrs_cli.export.replay import LONGEST, Curve, entry_curve, read_loss_curve, replay, stretched
from mlrs_cli.export.table import as_csv, as_json
from mlrs_cli.files import replacing, write_text
from mlrs_cli.run import read_run
from mlrs_cli.schedules.mlr_snet import MLRSNet
from mlrs_cli.zoo.entry import FILES
from mlrs_cli.zoo.reference import Resolved, resolve

__all__ = ["FORMATS", "export"]

# format → what the default name of its file ends in
FORMATS = {
    "csv": ".csv",
    "json": ".json",
    "onnx": ".onnx",
    "torch": ".pt2",
    "python": ".py",
    "optax": "_optax.py",
    "hub": "",
}
FLAT: Curve = [(0.0, 1.0)]  # hand-made schedules do not read the loss


def export(
    reference: str,
    format: str,
    output: Path | None = None,
    budget: int | None = None,
    loss_curve: Path | None = None,
    num_classes: int | None = None,
) -> Path:
    """Write a schedule in another form; returns the path of what was written.

    Args:
        reference: of the schedule, see `mlrs_cli.zoo.reference`. Tables take hand-made ones too.
        format: one of `FORMATS`.
        output: file, or folder for `hub`; named after the schedule by default.
        budget: updates of a table; those of the loss curve's run by default.
        loss_curve: for a table: a CSV file or a run folder; the entry's own curve by default.
        num_classes: for a table: classes of the task; those of the loss curve's run by default, else 10.

    Raises:
        UsageError: the format does not fit the schedule or the other arguments.
    """
    if format not in FORMATS:
        raise UsageError(f"no format '{format}': {nearest(format, FORMATS)}")
    resolved = resolve(reference)
    stem = resolved.entry.config.name if resolved.entry else resolved.label.partition(":")[0]
    path = output or Path(
        stem.replace("-", "_") + FORMATS[format] if format in ("python", "optax") else stem + FORMATS[format]
    )
    if format in ("csv", "json"):
        write_table(resolved, format, path, budget, loss_curve, num_classes)
        return path
    if budget or loss_curve:
        raise UsageError(f"--budget and --loss-curve are for tables, and --format {format} is none: drop them")
    schedule = resolved.schedule
    if resolved.entry is None or not isinstance(schedule, MLRSNet):
        raise UsageError(f"'{reference}' has no network to write as {format}: use --format csv or json")
    if format == "hub":
        copy_entry(resolved.entry.folder, path)
    elif format in ("python", "optax"):
        from mlrs_cli.export.source import as_optax, as_python

        write_text(path, (as_python if format == "python" else as_optax)(resolved.label, schedule))
    else:
        from mlrs_cli.export.graph import save_onnx, save_torch

        with replacing(path) as temporary:
            (save_onnx if format == "onnx" else save_torch)(schedule, temporary)
    return path


def write_table(
    resolved: Resolved, format: str, path: Path, budget: int | None, loss_curve: Path | None, num_classes: int | None
) -> None:
    """Write the rates over a loss curve."""
    if loss_curve is None and resolved.entry is None:
        budget, curve = budget or 1000, FLAT
    elif loss_curve is not None:
        curve = read_loss_curve(loss_curve)
    else:
        assert resolved.entry is not None
        curve = entry_curve(resolved.entry)
    if budget is None:
        on = resolved.entry.config.learned_on if resolved.entry and not loss_curve else None
        budget = min(on.updates, LONGEST) if on else len(curve)
    if num_classes is None:
        is_run = loss_curve is not None and loss_curve.is_dir()
        num_classes = int(read_run(loss_curve)["config"].get("num_classes", 10)) if loss_curve and is_run else 10
    losses = stretched(curve, budget)
    rates = replay(resolved.schedule, losses, num_classes)
    write_text(path, as_csv(losses, rates) if format == "csv" else as_json(resolved.label, num_classes, losses, rates))


def copy_entry(folder: Path, path: Path) -> None:
    """Write an entry's files into a new folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is there already: choose another --output")
    path.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        with replacing(path / name) as temporary:
            shutil.copyfile(folder / name, temporary)
