"""HD, hypergradient descent (Baydin et al., ICLR 2018): the learning rate descends the training loss it led to.

    α_t = α_{t−1} + β·⟨∇L_t(w_t), d_{t−1}⟩

d is the direction of the optimizer's update, so that one line is the paper's SGD-HD, its form with momentum, and Adam-HD.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.tuner import Tuner

__all__ = ["HD"]


@dataclass
class HD(Tuner):
    """Hypergradient descent. One inner product an update, no extra pass, one more copy of the weights.

    The rule may cross zero and then climbs the loss; here the rate stops at zero, from where it can rise again.

    Args:
        start: first learning rate, the paper's α₀.
        beta: learning rate of the learning rate.
    """

    adam: ClassVar[dict[str, float]] = {"start": 1e-3, "beta": 1e-7}
    start: float = 1e-3
    beta: float = 1e-3
    rate: float = field(init=False, default=-1.0)

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        probe = observation.ask()
        self.rate = self.start if self.rate < 0 else max(self.rate - self.beta * probe.train_slope(), 0.0)
        probe.carry_tangent(self.rate, decay=0.0)
        return self.rate
