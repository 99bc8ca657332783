"""The authors' published checkpoints as an entry."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from mlrs_cli.environment import environment
from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.mlr_snet import SHAPES, Cell, MLRSNet, Stage
from mlrs_cli.zoo.entry import LARGEST, Entry, write_entry

__all__ = ["import_checkpoints"]

# Names of the authors' layers, and ours.
LAYERS = {
    "layer1.fc_i2h.0": "input_0",
    "layer1.fc_i2h.2": "input_1",
    "layer1.fc_h2h.0": "hidden_0",
    "layer1.fc_h2h.2": "hidden_1",
    "layer3": "head",
}
PREVIEW = 1000  # updates of the curve that an imported entry gets


def import_checkpoints(
    files: Sequence[Path],
    starts: Sequence[float],
    name: str,
    folder: Path,
    cell: Cell = "transfer",
    version: str = "0.1.0",
    description: str | None = None,
    gamma_measured: Literal["once", "every-stage"] = "every-stage",
) -> Entry:
    """Write an entry from PyTorch checkpoints of the authors' network, loaded without unpickling code.

    Its curves are a preview, not a run: the rates over 1,000 updates of a 10-class task whose loss falls from ln 10 as
    1/(1 + 10·t/T).

    Args:
        files: one a stage.
        starts: share of the budget from which each is used.
        name: of the entry.
        folder: where the entry is written.
        cell: the published snapshots belong to the transfer cell.
        version: of the entry.
        description: for the card.
        gamma_measured: the authors measure the scale anew at every stage.

    Raises:
        NotFoundError: a file is not there.
        UsageError: not as many starts as files.
        MLRSError: a file is not such a checkpoint.
    """
    if len(files) != len(starts):
        raise UsageError(
            f"{len(files)} files and {len(starts)} stages: give one start per file, as in --stages 0,1/3,2/3"
        )
    if list(starts) != sorted(set(starts)) or starts[0] != 0 or starts[-1] >= 1:
        raise UsageError(f"--stages must start at 0 and rise below 1, got {', '.join(f'{s:g}' for s in starts)}")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another --out")
    weights = [read_checkpoint(file) for file in files]
    stages = [Stage(start, arrays) for start, arrays in zip(starts, weights, strict=True)]
    preview = preview_curve(MLRSNet(stages, cell, gamma_measured))
    names = ", ".join(file.name for file in files)
    shares = [str(Fraction(start).limit_denominator(1000)) for start in starts]
    config: dict[str, Any] = {
        "name": name,
        "version": version,
        "description": description or f"Imported from {names}.",
        "license": "MIT",
        "method": {
            "name": "mlr-snet",
            "cell": cell,
            "gamma": {"rule": "mlr-snet", "measured": gamma_measured},
            "stages": [{"start": start} for start in starts],
        },
        "command": f"mlrs zoo import {' '.join(f.name for f in files)} --stages {','.join(shares)} "
        f"--cell {cell} --gamma {gamma_measured} --name {name}",
        "environment": environment(),
    }
    return write_entry(folder, config, weights, {0: preview})


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Weights of one network under our names, float64."""
    import torch

    if not file.is_file():
        raise NotFoundError(f"no file {file}: name the checkpoints to import")
    if file.stat().st_size > LARGEST:
        raise MLRSError(
            f"{file} has {file.stat().st_size:,} bytes and the network has 49,000: this is another checkpoint"
        )
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MLRSError(f"{file} cannot be loaded as plain weights: {reason}") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise MLRSError(f"{file} is not a dictionary of tensors: save the network's state_dict")
    out = {}
    for key, value in loaded.items():
        layer, _, kind = str(key).rpartition(".")
        out[f"{LAYERS.get(layer, layer)}.{kind}"] = value.double().numpy()
    if {key: value.shape for key, value in out.items()} != SHAPES:
        odd = sorted(set(out) ^ set(SHAPES)) or sorted(k for k in SHAPES if out[k].shape != SHAPES[k])
        raise MLRSError(f"{file} is not an MLR-SNet of 50 hidden units: {odd[0]} does not fit")
    return out


def preview_curve(schedule: MLRSNet) -> dict[str, list[float]]:
    """What a schedule answers to a loss that falls as it usually does."""
    losses = [2.302585 / (1 + 10 * step / PREVIEW) for step in range(PREVIEW)]
    rates = [schedule.lr(Observation(step, PREVIEW, loss, 10)) for step, loss in enumerate(losses)]
    return {"step": [float(step + 1) for step in range(PREVIEW)], "loss": losses, "lr": rates}
