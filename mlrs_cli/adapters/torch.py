"""A schedule as a `torch.optim.lr_scheduler.LRScheduler` that takes the loss.

scheduler = MLRScheduler.from_zoo("cifar10-resnet18", optimizer, total_steps=1000, num_classes=10)
for x, y in batches:
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    scheduler.step(loss)  # before the optimizer: sets the rate of this very update
    optimizer.step()
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mlrs_cli.errors import UsageError
from mlrs_cli.schedules.contract import Observation, Schedule
from mlrs_cli.schedules.mlr_snet import MLRSNet
from mlrs_cli.zoo.reference import resolve

__all__ = ["MLRScheduler"]


class MLRScheduler(LRScheduler):
    """Sets the learning rate of each update from its training loss.

    Call `step(loss)` once per optimizer update, after the loss is known and before `optimizer.step()`. With gradient
    accumulation, once per accumulated update, with the mean of its losses. When mixed precision skips an update, the call
    has still counted: the schedule follows the losses.

    Under `torch.distributed` the loss is averaged over all processes, so that every one sets the same rate; every process
    must call. Parameter groups keep the ratios of the rates they were built with. Do not give it to
    `Accelerator.prepare`, which steps a scheduler once per process.

    Args:
        optimizer: any; a learned schedule fits the kind it was learned with.
        schedule: at its first update.
        total_steps: updates of the whole run.
        num_classes: classes of the task, or the vocabulary size.
        initial_loss: training loss before the first update, from which a learned schedule takes its scale; the loss of
            the first call by default.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        total_steps: int,
        num_classes: int = 10,
        initial_loss: float | None = None,
    ) -> None:
        if total_steps < 1:
            raise UsageError(f"total_steps is the number of updates of the run and at least 1, got {total_steps}")
        self.schedule, self.total_steps, self.num_classes = schedule, total_steps, num_classes
        self.taken, self.started = 0, False
        self.last_loss: object = None
        if initial_loss is not None and isinstance(schedule, MLRSNet):
            schedule.measure(initial_loss, num_classes)
        super().__init__(optimizer)
        self.started = True
        rates = [float(rate) for rate in self.base_lrs]
        if rates[0] <= 0:
            raise UsageError(
                f"the optimizer's learning rate sets the ratios of its groups and must be above 0, got {rates[0]}"
            )
        self.ratios = [rate / rates[0] for rate in rates]

    @classmethod
    def from_zoo(
        cls,
        reference: str,
        optimizer: Optimizer,
        total_steps: int,
        num_classes: int = 10,
        initial_loss: float | None = None,
    ) -> MLRScheduler:
        """The scheduler of a reference: `cifar10-resnet18`, `hub:ORG/REPO@v1.0.0`, `./path`, `cosine:lr=0.1`."""
        return cls(optimizer, resolve(reference).schedule, total_steps, num_classes, initial_loss)

    def step(self, loss: float | Tensor | None = None) -> None:
        """Set the rate of the coming update from its training loss."""
        if not self.started:  # the call that LRScheduler makes while it is built; rates stay as they are
            self.last_epoch += 1
            self._last_lr = self.get_last_rates()
            return
        if loss is None:
            raise UsageError(
                "this scheduler reads the training loss: call step(loss) once per update, before optimizer.step()"
            )
        if self.taken >= self.total_steps:
            raise UsageError(
                f"all {self.total_steps} updates of total_steps are taken: build it with the whole run's number"
            )
        if loss is self.last_loss and not getattr(self.optimizer, "_opt_called", True):
            raise UsageError(
                "step(loss) came twice with the same loss and no optimizer.step() between: do not give this scheduler to "
                "Accelerator.prepare, which steps it once per process"
            )
        self.last_loss, self.optimizer._opt_called = loss, False  # type: ignore[attr-defined]
        observation = Observation(self.taken, self.total_steps, mean_over_processes(loss), self.num_classes)
        self.write(self.schedule.lr(observation))
        self.taken += 1
        self.last_epoch += 1

    def write(self, lr: float) -> None:
        """Write a rate into every group, by its ratio; a Tensor rate is filled in place."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio
        self._last_lr = self.get_last_rates()

    def get_last_rates(self) -> list[float | Tensor]:
        """The rates that stand in the groups now."""
        return [g["lr"].clone() if isinstance(g["lr"], Tensor) else g["lr"] for g in self.optimizer.param_groups]

    def get_lr(self) -> list[float | Tensor]:
        """The rates that stand in the groups now."""
        return self.get_last_rates()

    def state_dict(self) -> dict[str, Any]:
        """Plain data: loads under `torch.load`'s default."""
        rates = [float(rate) for rate in self._last_lr]
        return {
            "schedule": self.schedule.state_dict(),
            "taken": self.taken,
            "total_steps": self.total_steps,
            "num_classes": self.num_classes,
            "ratios": self.ratios,
            "last_epoch": self.last_epoch,
            "last_lr": rates,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`; the total and the classes must be those it was saved with."""
        for name in ("total_steps", "num_classes"):
            if state_dict[name] != getattr(self, name):
                raise UsageError(
                    f"{name} is {getattr(self, name)} and was {state_dict[name]} when this state was saved"
                )
        self.schedule.load_state_dict(state_dict["schedule"])
        self.taken, self.last_epoch, self.ratios = state_dict["taken"], state_dict["last_epoch"], state_dict["ratios"]
        if self.taken:
            self.write(state_dict["last_lr"][0])


def mean_over_processes(loss: float | Tensor) -> float:
    """A loss as a number, averaged over the processes of `torch.distributed`, if there are several."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return float(loss.detach() if isinstance(loss, Tensor) else loss)
    device = loss.device if isinstance(loss, Tensor) else torch.device("cpu")
    if not isinstance(loss, Tensor) and distributed.get_backend() == "nccl":
        device = torch.device("cuda", torch.cuda.current_device())
    total = torch.as_tensor(loss, dtype=torch.float32, device=device).detach().clone()
    distributed.all_reduce(total)
    return float(total) / distributed.get_world_size()
