"""L4 (Rolínek & Martius, NeurIPS 2018): each update is to gain a share of what is still to be gained.

    α_t = fraction · (L_t − factor·L*_t) / (⟨ĝ_t, d_t⟩ + ε)

L* is the least loss seen, started at a share of the first loss and forgotten over `forget` updates; ĝ is the optimizer's
running mean of the gradient and d its direction, so momentum gives the paper's L4Mom, Adam its L4Adam, and plain SGD
(without a running mean) Polyak's step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.tuner import Tuner

__all__ = ["L4"]

EPSILON = 1e-12


@dataclass
class L4(Tuner):
    """L4. One inner product an update, no extra pass.

    Args:
        fraction: the paper's α.
        factor: of the least loss seen, that is believed to be within reach; γ.
        first: share of the first loss that L* starts at; γ₀.
        forget: updates over which L* is forgotten; τ.
    """

    fraction: float = 0.15
    factor: float = 0.9
    first: float = 0.75
    forget: float = 1000.0
    least: float = field(init=False, default=-1.0)

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        loss = observation.loss
        self.least = self.first * loss if self.least < 0 else min(self.least, loss)
        descent = observation.ask().descent()
        rate = self.fraction * (loss - self.factor * self.least) / (descent + EPSILON)
        self.least *= 1 + 1 / self.forget
        return 0.0 if descent < 0 else rate  # AdamW's decay may point uphill, where there is nothing to gain
