"""A schedule inside Lightning: a callback that sets the rate of each update from its own loss.

    trainer = Trainer(max_epochs=10, callbacks=[MLRCallback("cifar10-resnet18", num_classes=10)])

`configure_optimizers` returns the optimizer alone. Lightning's `lr_scheduler_step` comes after the optimizer has stepped, one
update too late for a rate that follows the loss; the hooks used here come before. The state is in Lightning's checkpoints.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from mlrs_cli.adapters.torch import MLRScheduler
from mlrs_cli.errors import UsageError

__all__ = ["MLRCallback"]


class MLRCallback(Callback):
    """Drives the one optimizer of a LightningModule by a schedule.

    Args:
        reference: of the schedule, as for `mlrs transfer`.
        num_classes: classes of the task, or the vocabulary size.
        initial_loss: training loss before the first update; the loss of the first update by default.
        total_steps: updates of the whole run; Lightning's own estimate by default.
    """

    def __init__(
        self, reference: str, num_classes: int, initial_loss: float | None = None, total_steps: int | None = None
    ) -> None:
        self.reference, self.num_classes = reference, num_classes
        self.initial_loss, self.total_steps = initial_loss, total_steps
        self.saved: dict[str, Any] | None = None
        self.scheduler: MLRScheduler | None = None
        self.losses: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the optimizer."""
        if len(trainer.optimizers) != 1:
            raise UsageError(
                f"a schedule drives one optimizer, and configure_optimizers returned {len(trainer.optimizers)}"
            )
        if trainer.lr_scheduler_configs:
            raise UsageError("configure_optimizers returned a scheduler of its own: let it return the optimizer alone")
        total = self.total_steps or int(trainer.estimated_stepping_batches)
        self.scheduler = MLRScheduler.from_zoo(
            self.reference, trainer.optimizers[0], total, self.num_classes, self.initial_loss
        )
        if self.saved is not None:
            self.scheduler.load_state_dict(self.saved)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss of one batch, as it was before Lightning divided and scaled it."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = float(scaler.get_scale()) if scaler else 1.0
        self.losses.append(loss.detach() * (trainer.accumulate_grad_batches / scale))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Set the rate of this update."""
        assert self.scheduler is not None
        self.scheduler.step(sum(self.losses) / len(self.losses))
        self.losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """What Lightning writes into its checkpoints."""
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.saved = state_dict or None
