"""MLR-SNet learned during the very run it is used in, and the ablation that shows what its network adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlrs_cli.errors import UsageError
from mlrs_cli.meta.one_step import Learns, OneStep
from mlrs_cli.schedules.contract import Observation, Schedule

__all__ = ["LEARNING", "LearnedOnline", "MLRSNetOnline", "MLRScalar"]


@dataclass
class LearnedOnline(Schedule):
    """The paper's meta-learner on the validation split of the run at hand: nothing learned beforehand is used.

    Args:
        meta_updates: over the whole run, evenly; the paper takes 200. Each costs a forward and a backward pass.
        meta_lr: Adam's learning rate on what is learned.

    `scale`, a factor on γ where the optimizer is not the plain SGD that the formula is for, and `seed`, of the network's
    initial values, are the run's to set.
    """

    learns: ClassVar[Learns] = "network"
    needs_validation: ClassVar[bool] = True
    adam: ClassVar[dict[str, float]] = {}
    meta_updates: int = 200
    meta_lr: float = 1e-3
    scale: float = field(init=False, default=1.0)
    seed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.meta_updates < 1 or not (math.isfinite(self.meta_lr) and self.meta_lr > 0):
            raise UsageError(
                f"meta_updates and meta_lr must be finite and above 0, got {self.meta_updates} and {self.meta_lr}"
            )
        self.method: OneStep | None = None

    def begin(self, budget: int) -> OneStep:
        """The meta-learner, once the budget is known."""
        every = -(-budget // self.meta_updates)
        return OneStep(every, self.meta_lr, snapshots=(1.0,), seed=self.seed, learns=self.learns, scale=self.scale)

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update, after a meta-update where one is due."""
        if self.method is None:
            self.method = self.begin(observation.budget)
        return self.method.lr(observation)

    def state_dict(self) -> dict[str, Any]:
        """That of the meta-learner, with the interval it was begun with."""
        return {} if self.method is None else {"every": self.method.every, **self.method.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if state:
            self.method = self.begin(1)
            self.method.every = state["every"]
            self.method.load_state_dict(state)


@dataclass
class MLRSNetOnline(LearnedOnline):
    """The whole network is learned."""


@dataclass
class MLRScalar(LearnedOnline):
    """One number is learned in the network's place: α = γ·σ(s), the same at every loss.

    `meta_lr` makes the first meta-update move s as far as Adam's first step on the network moves its output's argument
    (measured: 0.025 ± 0.006 over ten initial networks at loss ln 10).
    """

    learns: ClassVar[Learns] = "scalar"
    meta_lr: float = 0.025


LEARNING: dict[str, type[Schedule]] = {"mlr-snet": MLRSNetOnline, "mlr-scalar": MLRScalar}
