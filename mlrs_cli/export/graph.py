"""The schedule as a graph: state and loss in, learning rate and new state out. For torch.export and ONNX.

Inputs, all float64: `loss`, `step` (updates taken before this one), `budget`, `num_classes`, scalars, and `state`, shape
(102,): hidden state (50), cell state (50), γ, stage in use. The first state is zeros with −1 as its last number.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.gamma import LEAST_PRODUCT
from mlrs_cli.schedules.mlr_snet import HIDDEN, SHAPES, MLRSNet

__all__ = ["INPUTS", "Graph", "first_state", "save_onnx", "save_torch"]

INPUTS = ("loss", "step", "budget", "num_classes", "state")
OUTPUTS = ("lr", "next_state")


def first_state() -> Tensor:
    """The state before the first update, shape (102,)."""
    state = torch.zeros(2 * HIDDEN + 2, dtype=torch.float64)
    state[-1] = -1
    return state


class Graph(nn.Module):
    """One update of an MLR-SNet schedule without Python state."""

    starts: Tensor

    def __init__(self, schedule: MLRSNet) -> None:
        super().__init__()
        self.transfer_cell = schedule.cell == "transfer"
        self.every_stage = schedule.gamma_measured == "every-stage"
        self.register_buffer("starts", torch.tensor([s.start for s in schedule.stages], dtype=torch.float64))
        for name in SHAPES:
            stacked = torch.stack([torch.as_tensor(s.weights[name]) for s in schedule.stages])
            self.register_buffer(name.replace(".", "_"), stacked)

    def forward(
        self, loss: Tensor, step: Tensor, budget: Tensor, num_classes: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(learning rate, new state)."""
        h, c, scale, before = state[:HIDDEN], state[HIDDEN : 2 * HIDDEN], state[-2], state[-1]
        stage = (self.starts <= step / budget).sum() - 1
        least = torch.maximum(loss, LEAST_PRODUCT / num_classes)
        measured = least.sqrt() * (least * num_classes).log() / num_classes.sqrt().sqrt() / 4
        anew = (before < 0) | ((before != stage) & self.every_stage)
        scale = torch.where(anew, measured, scale)

        def weight(name: str) -> Tensor:
            found: Tensor = getattr(self, name).index_select(0, stage.reshape(1)).squeeze(0)
            return found

        from_loss = weight("input_1_weight") @ (weight("input_0_weight")[:, 0] * loss + weight("input_0_bias")).relu()
        from_hidden = weight("hidden_1_weight") @ (weight("hidden_0_weight") @ h + weight("hidden_0_bias")).relu()
        gates = from_loss + weight("input_1_bias") + from_hidden + weight("hidden_1_bias")
        i, f, third, fourth = gates.reshape(4, HIDDEN).unbind(0)
        candidate, o = (third, fourth) if self.transfer_cell else (fourth, third)
        f = f if self.transfer_cell else f - 1
        c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
        h = o.sigmoid() * c.tanh()
        sigma = ((weight("head_weight") @ h) + weight("head_bias")).sigmoid()[0]
        rest = torch.stack([scale, stage.to(torch.float64)])
        return scale * sigma, torch.cat([h, c, rest])


def example() -> tuple[Tensor, ...]:
    """Inputs to trace with."""
    numbers = [torch.tensor(v, dtype=torch.float64) for v in (2.3, 0.0, 100.0, 10.0)]
    return (*numbers, first_state())


def save_torch(schedule: MLRSNet, path: Path) -> None:
    """Write a `torch.export` program (.pt2)."""
    program = torch.export.export(Graph(schedule).eval(), example())
    with quiet():  # of a file name that does not end in .pt2
        torch.export.save(program, path)


def save_onnx(schedule: MLRSNet, path: Path) -> None:
    """Write an ONNX model with its weights inside.

    Raises:
        UsageError: onnx and onnxscript are not installed; the sentence has the pip line.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs packages that are not installed: pip install {' '.join(missing)}")
    with quiet():
        torch.onnx.export(
            Graph(schedule).eval(),
            example(),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters' own remarks are no concern of the user's."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
