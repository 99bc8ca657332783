"""Hand-made schedules: closed forms of the share of the budget used, with no state to save.

They are written out instead of stepping `torch.optim.lr_scheduler`'s twins because a closed form needs neither torch
nor an optimizer and resumes by itself; the tests hold each to its torch twin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import Observation, Schedule

__all__ = ["HANDMADE", "HandMade"]


@dataclass(frozen=True)
class HandMade(Schedule):
    """A schedule of the step alone. Every member has `lr`'s peak under the name `peak`, written `lr=` in a reference."""

    adam: ClassVar[dict[str, float]] = {"peak": 1e-3}  # defaults under Adam and AdamW, in place of SGD's below
    peak: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            name = "lr" if field.name == "peak" else field.name
            for value in values if isinstance(values, tuple) else (values,):
                if not (math.isfinite(value) and value >= 0):
                    raise UsageError(f"{name} must be a finite number of 0 or more, got {value}")
                if field.name not in ("peak", "mult") and value > 1:
                    raise UsageError(f"{field.name} is a share and must be at most 1, got {value}")
        if self.peak == 0:
            raise UsageError("lr must be above 0, got 0.0")

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        return self.peak * self.shape(observation.step, observation.budget)

    def shape(self, step: int, budget: int) -> float:
        """Share of the peak at update `step` of `budget`."""
        raise UsageError(f"{type(self).__name__} has no shape of its own")


@dataclass(frozen=True)
class Fixed(HandMade):
    """The same rate throughout."""

    def shape(self, step: int, budget: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Exponential(HandMade):
    """A constant factor per update that ends at `final` times the peak."""

    final: float = 0.001

    def shape(self, step: int, budget: int) -> float:
        return float(self.final ** (step / budget))


@dataclass(frozen=True)
class MultiStep(HandMade):
    """Times `factor` at each milestone, a share of the budget (the MLR-SNet paper: every 60 of 200 epochs)."""

    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    factor: float = 0.1

    def shape(self, step: int, budget: int) -> float:
        return float(self.factor ** sum(step >= m * budget for m in self.milestones))


@dataclass(frozen=True)
class Cosine(HandMade):
    """Half a cosine from the peak to `final` times the peak."""

    final: float = 0.0

    def shape(self, step: int, budget: int) -> float:
        return half_cosine(step / budget, 1.0, self.final)


@dataclass(frozen=True)
class SGDR(HandMade):
    """Cosine with warm restarts: first cycle a share `first` of the budget, each next `mult` times as long."""

    first: float = 0.05
    mult: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first == 0 or self.mult < 1:
            raise UsageError(f"sgdr needs first > 0 and mult ≥ 1, got first={self.first} and mult={self.mult}")

    def shape(self, step: int, budget: int) -> float:
        length = max(1.0, self.first * budget)
        if self.mult == 1:
            return half_cosine(step % length / length, 1.0, 0.0)
        cycle = math.floor(math.log(step / length * (self.mult - 1) + 1, self.mult) + 1e-12)
        start = length * (self.mult**cycle - 1) / (self.mult - 1)
        return half_cosine((step - start) / (length * self.mult**cycle), 1.0, 0.0)


@dataclass(frozen=True)
class OneCycle(HandMade):
    """Cosine up from 1/25 of the peak over a share `warmup` of the budget, cosine down to 1/250,000 of it."""

    warmup: float = 0.3

    def shape(self, step: int, budget: int) -> float:
        top = self.warmup * budget - 1
        if step < top:
            return half_cosine(step / top, 1 / 25, 1.0)
        return half_cosine((step - top) / max(budget - 1 - top, 1), 1.0, 1 / 25e4)


@dataclass(frozen=True)
class Linear(HandMade):
    """A straight line from the peak to zero."""

    def shape(self, step: int, budget: int) -> float:
        return 1 - step / budget


@dataclass(frozen=True)
class WarmupLinear(HandMade):
    """A straight line up over a share `warmup` of the budget, then one down to zero."""

    warmup: float = 0.1

    def shape(self, step: int, budget: int) -> float:
        top = self.warmup * budget
        return (step + 1) / (top + 1) if step < top else (budget - step) / (budget - top)


@dataclass(frozen=True)
class Knee(HandMade):
    """Explore at the peak until a share `explore` of the budget, then linear to zero (Iyer et al. 2021)."""

    explore: float = 0.5
    warmup: float = 0.0

    def shape(self, step: int, budget: int) -> float:
        up, down = self.warmup * budget, self.explore * budget
        if step < up:
            return (step + 1) / (up + 1)
        return 1.0 if step < down else (budget - step) / (budget - down)


def half_cosine(share: float, start: float, end: float) -> float:
    """From `start` at share 0 to `end` at share 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


HANDMADE: dict[str, type[HandMade]] = {
    "fixed": Fixed,
    "exponential": Exponential,
    "multistep": MultiStep,
    "cosine": Cosine,
    "sgdr": SGDR,
    "onecycle": OneCycle,
    "linear": Linear,
    "warmup-linear": WarmupLinear,
    "knee": Knee,
}
