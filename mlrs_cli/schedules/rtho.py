"""RTHO, real-time hyperparameter optimisation (Franceschi et al., ICML 2017): forward-mode descent of the validation loss.

Z_{t+1} = ∂w_{t+1}/∂w_t·Z_t − d_t          the derivative of the weights in the learning rate, from the first update on
α_t     = α_{t−1} − β·⟨∇L_val(w_t), Z_t⟩
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.tuner import Tuner

__all__ = ["RTHO"]


@dataclass
class RTHO(Tuner):
    """RTHO. Each update costs two more forward and three more backward passes: a validation gradient and a Hessian–vector
    product. Z also moves through the optimizer's own state; it may grow without bound, which then is a diverged run.

    The defaults are those of AdaTune, the published code of MARTHE's authors, which holds RTHO too; for Adam it asks for
    a β three to four decades lower. The rate stops at zero.

    Args:
        start: first learning rate.
        beta: learning rate of the learning rate.
    """

    through_updates: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    adam: ClassVar[dict[str, float]] = {"start": 1e-3, "beta": 1e-12}
    start: float = 1e-2
    beta: float = 1e-8
    rate: float = field(init=False, default=-1.0)

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        probe = observation.ask()
        if self.rate < 0:
            self.rate = self.start
        else:
            slope, _ = probe.validation_slopes()
            self.rate = max(self.rate - self.beta * slope, 0.0)  # in this order a NaN stays one
        probe.carry_tangent(self.rate, decay=1.0)
        return self.rate
