"""mlrs: train neural networks with learned learning-rate schedules.

    from mlrs_cli import Observation, resolve

    schedule = resolve("cifar10-resnet18").schedule
    for step in range(budget):
        ...  # forward and backward
        lr = schedule.lr(Observation(step, budget, loss=float(loss), num_classes=10))

The names below are loaded when they are first used: `import mlrs_cli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlrs_cli.errors import MLRSError
    from mlrs_cli.learner import Learner
    from mlrs_cli.schedules.contract import Observation, Schedule
    from mlrs_cli.zoo.reference import resolve

__version__ = "0.1.0"

__all__ = ["Learner", "MLRSError", "Observation", "Schedule", "resolve"]

HOMES = {
    "Learner": "mlrs_cli.learner",
    "MLRSError": "mlrs_cli.errors",
    "Observation": "mlrs_cli.schedules.contract",
    "Schedule": "mlrs_cli.schedules.contract",
    "resolve": "mlrs_cli.zoo.reference",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'mlrs_cli' has no attribute '{name}'")
    return getattr(import_module(HOMES[name]), name)
