"""MARTHE (Donini et al., IJCAI 2020): between HD, which forgets at once, and RTHO, which never does.

    Z_{t+1} = μ_t·∂w_{t+1}/∂w_t·Z_t − d_t
    α_t     = α_{t−1} − β·⟨∇L_val(w_t), Z_t⟩
    μ_t     = clip(α_t / ⟨∇L_val(w_t), ∇L(w_{t−1})⟩, 0, 1)^{1/(c_t + 1)},     c_t = c_{t−1}·sign(μ_{t−1}) + μ_{t−1}

The rule of μ is that of the authors' code (AdaTune): while validation and training gradients agree, c counts up and μ
nears 1; when they disagree, μ and c fall to 0 and Z starts anew. Its β is constant there, and here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from mlrs_cli.schedules.contract import Probe
from mlrs_cli.schedules.tuner import Hypergradient

__all__ = ["MARTHE"]


@dataclass
class MARTHE(Hypergradient):
    """MARTHE. Passes as for RTHO, where μ is 0 two backward and one forward less; one more copy of the weights.

    Args:
        start: first learning rate.
        beta: learning rate of the learning rate.
    """

    through_updates: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    keeps_gradient: ClassVar[bool] = True
    adam: ClassVar[dict[str, float]] = {"start": 1e-3, "beta": 1e-12}
    start: float = 1e-2
    beta: float = 1e-8
    agreement: float = field(init=False, default=0.0)
    mu: float = field(init=False, default=0.0)
    count: float = field(init=False, default=0.0)

    def slope(self, probe: Probe) -> float:
        """Of the validation loss; notes how far its gradient agrees with the last training gradient."""
        slope, self.agreement = probe.validation_slopes()
        return slope

    def memory(self) -> float:
        """μ_t, which is 0 at the first update: nothing is carried yet."""
        ratio = self.rate / self.agreement if self.agreement else 0.0
        self.count = (self.count if self.mu > 0 else 0.0) + self.mu
        self.mu = min(max(ratio, 0.0), 1.0) ** (1 / (self.count + 1)) if math.isfinite(ratio) else 0.0
        return self.mu
