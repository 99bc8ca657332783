"""LRTuner, a reconstruction: Iyer et al. (arXiv 2105.14526) published an abstract's worth of it, and no code.

Every so many updates the loss of some training batches is measured at a few lengths along the optimizer's direction, and
a parabola k₀ + k₁η + k₂η² laid through the mean. Exploiting, the rate goes to its minimiser −k₁/2k₂; exploring, during the
first part of the budget, it may rise there but does not fall as long as the training loss does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.tuner import Tuner

__all__ = ["LRTuner", "minimiser"]

LENGTHS = (0.0, 0.5, 1.0, 2.0)  # of the present rate


def minimiser(lengths: Sequence[float], losses: Sequence[float], least_fit: float) -> float | None:
    """Where the least-squares parabola through the points is lowest, or None where it is not to be trusted.

    Refused are parabolas that are not convex, that do not descend at 0, and that explain less than `least_fit` of the
    losses' variance (R²).

    >>> round(minimiser([0, 1, 2, 4], [5, 3, 3, 9], 0.99), 6)
    1.5
    """
    x, y = np.asarray(lengths, float), np.asarray(losses, float)
    if not np.isfinite(y).all():
        return None
    matrix = np.stack([np.ones_like(x), x, x * x], 1)
    scales = np.abs(matrix).max(0)  # rates of 1e-5 and their squares are far apart
    k0, k1, k2 = np.linalg.lstsq(matrix / scales, y, rcond=None)[0] / scales
    left = y - (k0 + k1 * x + k2 * x * x)
    spread = ((y - y.mean()) ** 2).sum()
    if not (k2 > 0 and k1 < 0 and spread > 0 and 1 - (left**2).sum() / spread >= least_fit):
        return None
    return float(-k1 / (2 * k2))


@dataclass
class LRTuner(Tuner):
    """LRTuner, reconstructed from its abstract; not the authors' code, and its figures are not theirs.

    Its cost is 4·`batches` forward passes every `every` updates: with the defaults a fifth of a forward pass, some 7 %, of
    an update.

    Args:
        start: first learning rate.
        every: updates from one tuning to the next.
        batches: training batches on which the loss is measured, the same ones at each length.
        growth: the rate changes at most by this factor at a tuning, up or down.
        fit: least R² of an accepted parabola.
        explore: share of the budget in which the rate does not fall while the training loss does.
    """

    adam: ClassVar[dict[str, float]] = {"start": 1e-3}
    may_be_zero: ClassVar[tuple[str, ...]] = ("explore",)
    start: float = 0.1
    every: int = 40
    batches: int = 2
    growth: float = 2.0
    fit: float = 0.9
    explore: float = 0.5
    rate: float = field(init=False, default=-1.0)
    loss_sum: float = field(init=False, default=0.0)
    loss_count: int = field(init=False, default=0)
    level: float = field(init=False, default=math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth <= 1 or self.fit > 1 or self.explore > 1:
            raise UsageError(
                f"lrtuner needs growth above 1, fit and explore at most 1, got {self.growth}, {self.fit}, {self.explore}"
            )

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        if self.rate < 0:
            self.rate = self.start
        self.loss_sum, self.loss_count = self.loss_sum + observation.loss, self.loss_count + 1
        if observation.step % self.every == 0:
            self.tune(observation.ask(), observation.fraction < self.explore)
        return self.rate

    def tune(self, probe: Any, exploring: bool) -> None:
        """Measure, fit, and move the rate."""
        mean = self.loss_sum / self.loss_count
        falling, self.level = mean < self.level < math.inf, mean  # nothing is known at the first tuning
        self.loss_sum, self.loss_count = 0.0, 0
        lengths = [share * self.rate for share in LENGTHS]
        losses = probe.losses_after(lengths, self.batches)
        wanted = minimiser(lengths, losses, self.fit)
        if wanted is None:  # no parabola to trust: only the plain cases move the rate
            wanted = self.plain(losses)
        wanted = min(max(wanted, self.rate / self.growth), self.rate * self.growth)
        self.rate = max(self.rate, wanted) if exploring and falling else wanted

    def plain(self, losses: Sequence[float]) -> float:
        """Without a fit: longer if the loss falls to the last length, shorter if every length raises it, else as before."""
        start, *others = losses
        if all(b < a for a, b in zip(losses, others, strict=False)):
            return self.rate * self.growth
        if all(not loss <= start for loss in others):  # also where they are no numbers
            return self.rate / self.growth
        return self.rate
