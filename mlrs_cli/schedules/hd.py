"""HD, hypergradient descent (Baydin et al., ICLR 2018): the learning rate descends the training loss it led to.

    α_t = α_{t−1} + β·⟨∇L_t(w_t), d_{t−1}⟩

d is the direction of the optimizer's update, so that one line is the paper's SGD-HD, its form with momentum, and Adam-HD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlrs_cli.schedules.contract import Probe
from mlrs_cli.schedules.tuner import Hypergradient

__all__ = ["HD"]


@dataclass
class HD(Hypergradient):
    """Hypergradient descent. One inner product an update, no extra pass, one more copy of the weights.

    Args:
        start: first learning rate, the paper's α₀.
        beta: learning rate of the learning rate.
    """

    adam: ClassVar[dict[str, float]] = {"start": 1e-3, "beta": 1e-7}
    start: float = 1e-3
    beta: float = 1e-3

    def slope(self, probe: Probe) -> float:
        """Of the training loss."""
        return probe.train_slope()

    def memory(self) -> float:
        """Nothing: Z is −d, of the last update alone."""
        return 0.0
