"""RTHO, real-time hyperparameter optimisation (Franceschi et al., ICML 2017): forward-mode descent of the validation loss.

Z_{t+1} = ∂w_{t+1}/∂w_t·Z_t − d_t          the derivative of the weights in the learning rate, from the first update on
α_t     = α_{t−1} − β·⟨∇L_val(w_t), Z_t⟩
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlrs_cli.schedules.contract import Probe
from mlrs_cli.schedules.tuner import Hypergradient

__all__ = ["RTHO"]


@dataclass
class RTHO(Hypergradient):
    """RTHO. Each update costs two more forward and three more backward passes: a validation gradient and a Hessian–vector
    product. Z also moves through the optimizer's own state; it may grow without bound, which then is a diverged run.

    The defaults are those of AdaTune, the published code of MARTHE's authors, which holds RTHO too; for Adam it asks for
    a β three to four decades lower.

    Args:
        start: first learning rate.
        beta: learning rate of the learning rate.
    """

    through_updates: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    adam: ClassVar[dict[str, float]] = {"start": 1e-3, "beta": 1e-12}
    start: float = 1e-2
    beta: float = 1e-8

    def slope(self, probe: Probe) -> float:
        """Of the validation loss."""
        return probe.validation_slopes()[0]

    def memory(self) -> float:
        """All of it."""
        return 1.0
