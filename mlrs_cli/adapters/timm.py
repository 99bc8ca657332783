"""A schedule as a timm scheduler: `step_update(num_updates, metric=loss)`, as timm's own training script calls it.

    scheduler = TimmScheduler.from_zoo("cifar10-resnet18", optimizer, total_steps=1000, num_classes=10)
    ...
    optimizer.step()
    num_updates += 1
    scheduler.step_update(num_updates=num_updates, metric=loss)

timm calls after the optimizer has stepped, so the rate of an update follows the loss of the update before. The first update
takes its rate from `initial_loss`, ln(num_classes) by default: the loss of a classifier that knows nothing. timm's script
passes the mean loss of the epoch so far; pass the loss of the update for the rates the schedule was learned with.
"""

from __future__ import annotations

import math
from typing import Any

from timm.scheduler.scheduler import Scheduler as BaseScheduler
from torch import Tensor
from torch.optim import Optimizer

from mlrs_cli.adapters.torch import mean_over_processes
from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import Observation, Schedule
from mlrs_cli.zoo.reference import resolve

__all__ = ["TimmScheduler"]


class TimmScheduler(BaseScheduler):
    """Sets the rate of the next update; groups keep their ratios, and timm's `lr_scale` is honoured.

    Args:
        optimizer: any.
        schedule: at its first update.
        total_steps: updates of the whole run.
        num_classes: classes of the task.
        initial_loss: training loss before the first update.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        total_steps: int,
        num_classes: int = 10,
        initial_loss: float | None = None,
    ) -> None:
        super().__init__(optimizer, param_group_field="lr", t_in_epochs=False, initialize=True)
        self.schedule, self.total_steps, self.num_classes = schedule, total_steps, num_classes
        rates = [float(value) for value in self.base_values]
        self.ratios = [rate / rates[0] for rate in rates]
        self.taken = 0
        self.rate = 0.0
        self.advance(math.log(num_classes) if initial_loss is None else initial_loss)

    @classmethod
    def from_zoo(
        cls,
        reference: str,
        optimizer: Optimizer,
        total_steps: int,
        num_classes: int = 10,
        initial_loss: float | None = None,
    ) -> TimmScheduler:
        """The scheduler of a reference."""
        return cls(optimizer, resolve(reference).schedule, total_steps, num_classes, initial_loss)

    def step(self, epoch: int, metric: float | None = None) -> None:
        """The end of an epoch changes nothing: rates follow updates."""

    def step_update(self, num_updates: int, metric: float | Tensor | None = None) -> None:
        """Set the rate of the next update from the loss of the last one.

        timm's script calls without a metric once, when it resumes; that changes nothing.
        """
        if metric is None and num_updates == self.taken - 1:
            return
        if metric is None:
            raise UsageError("this scheduler reads the training loss: call step_update(num_updates, metric=loss)")
        if num_updates != self.taken:
            raise UsageError(
                f"step_update is called once per update: expected num_updates={self.taken}, got {num_updates}"
            )
        if num_updates < self.total_steps:
            self.advance(mean_over_processes(metric))

    def update_groups(self, values: Any) -> None:
        """Write the rates; a Tensor rate is filled in place, as compiled optimizers need it."""
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            rate = value * group.get("lr_scale", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _get_lr(self, t: int) -> list[float]:
        return [self.rate * ratio for ratio in self.ratios]

    def advance(self, loss: float) -> None:
        """Ask the schedule and write its answer."""
        self.rate = self.schedule.lr(Observation(self.taken, self.total_steps, loss, self.num_classes))
        self.taken += 1
        self.update_groups(self._get_lr(self.taken))

    def state_dict(self) -> dict[str, Any]:
        """Plain data: loads under `torch.load`'s default."""
        return {"schedule": self.schedule.state_dict(), "taken": self.taken, "rate": self.rate, "ratios": self.ratios}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.schedule.load_state_dict(state_dict["schedule"])
        self.taken, self.rate, self.ratios = state_dict["taken"], state_dict["rate"], state_dict["ratios"]
        self.update_groups(self._get_lr(self.taken))
