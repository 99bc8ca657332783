"""A task: data set, model and loss, fitted to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mlrs_cli.settings import RunSettings
from mlrs_cli.tasks.datasets import load_dataset
from mlrs_cli.tasks.images import Images
from mlrs_cli.tasks.models import build_model
from mlrs_cli.tasks.streamed import Streamed

__all__ = ["Data", "Task", "build_task"]

Data = Images | Streamed
HELD_OUT_SHARE = 0.02


@dataclass(frozen=True)
class Task:
    """What is trained.

    Args:
        model: untrained (or pretrained) classifier.
        data: splits `train`, `test` and, unless nothing is held out, `validation`.
        train_loss: what is minimised.
    """

    model: nn.Module
    data: Data
    train_loss: nn.CrossEntropyLoss

    @property
    def num_classes(self) -> int:
        """C."""
        return self.data.num_classes


def build_task(settings: RunSettings, download: bool = True) -> Task:
    """The task of a run, its data fetched if need be and allowed. The model's initial weights depend on the seed alone."""
    data = load_dataset(settings.dataset, settings.data_dir, settings.image_size, download)
    if isinstance(data, Streamed):
        data = Streamed(data.sources, data.num_classes, data.size, workers=settings.workers)
    elif settings.image_size:
        data = data.fitted(data.shape[0], settings.image_size)
    held_out = settings.held_out
    if held_out is None:
        held_out = round(HELD_OUT_SHARE * data.count("train"))
    channels, size = data.shape
    torch.manual_seed(settings.seed)
    fitted = build_model(
        settings.model, data.num_classes, channels, size, settings.pretrained, settings.image_size is not None
    )
    data = data.held_out(held_out, settings.seed).fitted(fitted.channels, fitted.size)
    return Task(fitted.model, data, nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing))
