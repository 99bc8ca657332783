"""What the tuners share: settings that are checked, and a state that is saved. Each tuner has a file of its own.

A tuner is a dataclass: the fields of its constructor are its settings, the others what it remembers between updates.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import LARGEST_RATE, Observation, Probe, Schedule

__all__ = ["Hypergradient", "Tuner"]


@dataclass
class Tuner(Schedule):
    """A schedule that looks at the model.

    Its class's `adam` holds the defaults that differ under Adam and AdamW, `may_be_zero` the settings that may.
    """

    adam: ClassVar[dict[str, float]] = {}
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.init and not (
                math.isfinite(value) and (value > 0 or (setting.name in self.may_be_zero and value == 0))
            ):
                name = "lr" if setting.name == "start" else setting.name
                least = "of 0 or more" if setting.name in self.may_be_zero else "above 0"
                raise UsageError(f"{name} must be a finite number {least}, got {value}")

    def state_dict(self) -> dict[str, Any]:
        """What the tuner remembers."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self) if not setting.init}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)


@dataclass
class Hypergradient(Tuner):
    """A tuner whose rate descends a loss along Z = ∂w/∂α, which the learner carries from update to update.

    The rule may cross zero and then climbs the loss; here the rate stops at zero, from where it can rise again.

    Args:
        start: first learning rate, α₀.
        beta: learning rate of the learning rate.
    """

    keeps_gradient: ClassVar[bool] = False
    start: float = 1e-3
    beta: float = 1e-3
    rate: float = field(init=False, default=-1.0)

    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""
        probe = observation.ask()
        if self.rate < 0:
            self.rate = self.start
        else:
            self.rate = max(self.rate - self.beta * self.slope(probe), 0.0)  # in this order a NaN stays one
        if self.rate <= LARGEST_RATE:  # else the run has diverged and ends here
            probe.carry_tangent(self.rate, decay=self.memory(), keep_gradient=self.keeps_gradient)
        return self.rate

    @abstractmethod
    def slope(self, probe: Probe) -> float:
        """The loss by the rate, of the weights as they are: ⟨∇L, Z⟩."""

    @abstractmethod
    def memory(self) -> float:
        """μ, the share of the former Z that is carried on: from 0, nothing, to 1, all of it. Asked once an update, when the
        rate has moved.
        """
