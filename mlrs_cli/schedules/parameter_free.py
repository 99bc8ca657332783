"""Methods that are optimizers and need no learning rate. Their packages are an extra; here are their names and defaults.

They are compared and can train (`mlrs transfer`), but cannot be drawn, exported or put beside an optimizer of one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.handmade import HandMade

__all__ = ["PARAMETER_FREE"]


@dataclass(frozen=True)
class Brought(HandMade):
    """A constant factor for an optimizer that finds its own step length."""

    adam: ClassVar[dict[str, float]] = {}
    peak: float = 1.0

    def lr(self, observation: Observation) -> float:
        """The factor; only where the optimizer that it belongs to is there."""
        observation.ask()
        return self.peak


@dataclass(frozen=True)
class ScheduleFree(Brought):
    """Schedule-free SGD, or AdamW on a task of Adam or AdamW (Defazio et al., NeurIPS 2024): averaging in place of a schedule.

    The default rates are its package's; it is free of a schedule, not of a rate.
    """

    brings: ClassVar[str | None] = "schedule-free"
    adam: ClassVar[dict[str, float]] = {"peak": 0.0025}


@dataclass(frozen=True)
class Prodigy(Brought):
    """Prodigy (Mishchenko & Defazio, ICML 2024): Adam with an estimate of the distance to the solution, on every task."""

    brings: ClassVar[str | None] = "prodigy"


@dataclass(frozen=True)
class DAdaptation(Brought):
    """D-Adaptation (Defazio & Mishchenko, ICML 2023): SGD, or Adam on a task of Adam or AdamW."""

    brings: ClassVar[str | None] = "d-adaptation"


PARAMETER_FREE: dict[str, type[Brought]] = {
    "schedule-free": ScheduleFree,
    "prodigy": Prodigy,
    "d-adaptation": DAdaptation,
}
