"""What the tuners share: settings that are checked, and a state that is saved. Each tuner has a file of its own.

A tuner is a dataclass: the fields of its constructor are its settings, the others what it remembers between updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import Schedule

__all__ = ["Tuner"]


@dataclass
class Tuner(Schedule):
    """A schedule that looks at the model.

    Its class's `adam` holds the defaults that differ under Adam and AdamW, `may_be_zero` the settings that may.
    """

    adam: ClassVar[dict[str, float]] = {}
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.init and not (
                math.isfinite(value) and (value > 0 or (field.name in self.may_be_zero and value == 0))
            ):
                name = "lr" if field.name == "start" else field.name
                least = "of 0 or more" if field.name in self.may_be_zero else "above 0"
                raise UsageError(f"{name} must be a finite number {least}, got {value}")

    def state_dict(self) -> dict[str, Any]:
        """What the tuner remembers."""
        return {field.name: getattr(self, field.name) for field in fields(self) if not field.init}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
