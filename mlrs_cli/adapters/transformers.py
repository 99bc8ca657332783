"""A schedule inside 🤗 Transformers' Trainer: a callback that sets the rate of each update from its own loss.

    trainer = Trainer(..., callbacks=[MLRCallback("cifar10-resnet18", num_classes=2)])

The callback reads the loss that the model itself returns in training, and writes the rate just before the optimizer steps,
over whatever the Trainer's scheduler left there: choose `lr_scheduler_type="constant"`, so that nothing else is meant. It
saves its state with the Trainer's checkpoints; to continue from one, set `restore_callback_states_from_checkpoint=True`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from mlrs_cli.adapters.torch import MLRScheduler
from mlrs_cli.errors import UsageError

__all__ = ["MLRCallback"]


class MLRCallback(TrainerCallback, ExportableState):
    """Drives the optimizer of a Trainer by a schedule.

    Args:
        reference: of the schedule, as for `mlrs transfer`.
        num_classes: classes of the task, or the vocabulary size.
        initial_loss: training loss before the first update; the loss of the first update by default.
    """

    def __init__(self, reference: str, num_classes: int, initial_loss: float | None = None) -> None:
        self.reference, self.num_classes, self.initial_loss = reference, num_classes, initial_loss
        self.saved: dict[str, Any] | None = None
        self.losses: list[Tensor] = []
        self.whole = False  # whether the losses of an accumulated update add up to its mean
        self.scheduler: MLRScheduler | None = None
        self.handle: RemovableHandle | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach to model and optimizer; continue where a checkpoint was restored."""
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])  # out of Accelerate's wrapper
        self.scheduler = MLRScheduler.from_zoo(
            self.reference, optimizer, state.max_steps, self.num_classes, self.initial_loss
        )
        if self.saved is not None:
            self.scheduler.load_state_dict(self.saved)
        elif state.global_step:
            raise UsageError(
                "the Trainer goes on from a checkpoint and the schedule would begin anew: set "
                "restore_callback_states_from_checkpoint=True in TrainingArguments"
            )
        self.handle = kwargs["model"].register_forward_hook(self.hear, with_kwargs=True)

    def hear(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Note the loss that the model returns in training."""
        if not module.training or not torch.is_grad_enabled():
            return
        loss = output.get("loss") if hasattr(output, "get") else output[0]
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UsageError(
                "the model returns no loss of its own in training: this callback reads the loss from there"
            )
        self.losses.append(loss.detach())
        self.whole = kwargs.get("num_items_in_batch") is not None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the rate of this update."""
        assert self.scheduler is not None
        total = torch.stack(self.losses).sum()
        self.scheduler.step(total if self.whole else total / len(self.losses))
        self.losses.clear()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        if self.handle is not None:
            self.handle.remove()

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into its checkpoints."""
        saved = self.scheduler.state_dict() if self.scheduler else None
        arguments = {"reference": self.reference, "num_classes": self.num_classes, "initial_loss": self.initial_loss}
        return {"args": arguments, "attributes": {"saved": saved}}
