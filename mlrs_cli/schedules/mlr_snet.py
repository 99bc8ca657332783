"""MLR-SNet (Shu et al., TPAMI 2022) for use: numpy, one step of a small recurrent network per update.

The learning rate is α = γ·σ: σ in (0, 1) is the network's answer to the training loss, γ the scale of the task
(`mlrs_cli.schedules.gamma`). The torch twin that is learned lives in `mlrs_cli.meta.network`; tests hold the two
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlrs_cli.errors import DivergedError, MLRSError
from mlrs_cli.schedules.contract import Observation, Schedule
from mlrs_cli.schedules.gamma import gamma

__all__ = ["CELLS", "HIDDEN", "SHAPES", "Cell", "MLRSNet", "Stage", "sigma_step"]

Cell = Literal["transfer", "meta-train"]
CELLS: tuple[Cell, ...] = ("transfer", "meta-train")
HIDDEN = 50
NARROW = 25
Array = NDArray[np.float64]

# The weights of one network, by name. `input_*` and `hidden_*` are the two-layer maps from the loss and from the hidden
# state to the four gates, `head` reads the hidden state.
SHAPES: dict[str, tuple[int, ...]] = {
    "input_0.weight": (NARROW, 1),
    "input_0.bias": (NARROW,),
    "input_1.weight": (4 * HIDDEN, NARROW),
    "input_1.bias": (4 * HIDDEN,),
    "hidden_0.weight": (NARROW, HIDDEN),
    "hidden_0.bias": (NARROW,),
    "hidden_1.weight": (4 * HIDDEN, NARROW),
    "hidden_1.bias": (4 * HIDDEN,),
    "head.weight": (1, HIDDEN),
    "head.bias": (1,),
}


def sigma_step(weights: Mapping[str, Array], cell: Cell, loss: float, h: Array, c: Array) -> tuple[float, Array, Array]:
    """One step of the network: σ and the new state.

    Args:
        weights: one network, arrays of `SHAPES`.
        cell: `transfer` (gates: input, forget, candidate, output) or `meta-train` (input, forget, output, candidate,
            and 1 taken from the forget gate before its sigmoid). The authors' code holds both; the same weights give
            other outputs in the other cell.
        loss: training loss of this update's batch.
        h: hidden state, shape (50,).
        c: cell state, shape (50,).
    """
    w = weights
    from_loss = w["input_1.weight"] @ np.maximum(w["input_0.weight"][:, 0] * loss + w["input_0.bias"], 0)
    from_hidden = w["hidden_1.weight"] @ np.maximum(w["hidden_0.weight"] @ h + w["hidden_0.bias"], 0)
    gates = from_loss + w["input_1.bias"] + from_hidden + w["hidden_1.bias"]
    i, f, third, fourth = gates[:HIDDEN], gates[HIDDEN:100], gates[100:150], gates[150:]
    candidate, o = (third, fourth) if cell == "transfer" else (fourth, third)
    if cell == "meta-train":
        f = f - 1
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    h = sigmoid(o) * np.tanh(c)
    return float(sigmoid(w["head.weight"][0] @ h + w["head.bias"][0])), h, c


def sigmoid(x: Any) -> Any:
    """The logistic function, by tanh so that no argument overflows."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


@dataclass(frozen=True)
class Stage:
    """One snapshot of the network and the share of the budget from which it is used."""

    start: float
    weights: Mapping[str, Array]


class MLRSNet(Schedule):
    """A learned schedule: snapshots of the network, each used from its share of the budget on.

    The recurrent state starts at zero, moves once per update and runs on through stage switches.

    Args:
        stages: in the order of their starts, the first at 0.
        cell: which of the two published cells the weights belong to.
        gamma_measured: `once`, from the loss of the first update (as in meta-training), or `every-stage`, anew from the
            loss of the first update of each stage (as the authors transfer their snapshots).
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        cell: Cell = "transfer",
        gamma_measured: Literal["once", "every-stage"] = "once",
    ) -> None:
        starts = [stage.start for stage in stages]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1:
            raise MLRSError(f"stages must start at 0 and rise below 1, got {starts}")
        self.stages, self.cell, self.gamma_measured = list(stages), cell, gamma_measured
        self.h, self.c = np.zeros(HIDDEN), np.zeros(HIDDEN)
        self.stage, self.gamma = -1, 0.0

    def lr(self, observation: Observation) -> float:
        """Learning rate γ·σ of this update."""
        if not np.isfinite(observation.loss):
            raise DivergedError(f"the training loss of update {observation.step + 1} is {observation.loss}")
        stage = sum(s.start <= observation.fraction for s in self.stages) - 1
        if stage != self.stage:
            if not self.gamma or (self.stage >= 0 and self.gamma_measured == "every-stage"):
                self.measure(observation.loss, observation.num_classes)
            self.stage = stage
        weights = self.stages[stage].weights
        sigma, self.h, self.c = sigma_step(weights, self.cell, observation.loss, self.h, self.c)
        return self.gamma * sigma

    def measure(self, initial_loss: float, num_classes: int) -> None:
        """Take the scale from this loss; called before the first update, in place of the loss of that update."""
        self.gamma = gamma(initial_loss, num_classes)

    def state_dict(self) -> dict[str, Any]:
        """Recurrent state, scale and stage, as numbers and lists."""
        return {"h": self.h.tolist(), "c": self.c.tolist(), "stage": self.stage, "gamma": self.gamma}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.h, self.c = np.array(state["h"]), np.array(state["c"])
        self.stage, self.gamma = state["stage"], state["gamma"]
