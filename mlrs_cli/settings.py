"""What a run is asked to do, checked once, kept with it, compared when it is resumed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MetaTrainSettings", "RunSettings", "TransferSettings"]


class RunSettings(BaseModel):
    """The task, the optimizer and the budget of one run. Budget: `steps`, or `epochs` where `steps` is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    dataset: str
    epochs: int = Field(10, ge=1)
    steps: int | None = Field(None, ge=1)
    limit_batches: int | None = Field(None, ge=1)
    batch_size: int = Field(128, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    grad_accumulation: int = Field(1, ge=1)
    grad_clip: float | None = Field(None, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    image_size: int | None = Field(None, ge=1)
    pretrained: bool = False
    validation_size: int | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = "auto"
    workers: int = Field(0, ge=0)
    data_dir: str | None = None
    log: Literal["tensorboard", "wandb", "trackio"] | None = None


class TransferSettings(RunSettings):
    """A run under a finished schedule."""

    schedule: str
    lr_scale: float = Field(1.0, gt=0)


class MetaTrainSettings(RunSettings):
    """A run that learns its schedule. The held-out split is the meta data."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    cell: Literal["transfer", "meta-train"] = "transfer"
    meta_every: int = Field(300, ge=1)
    meta_lr: float = Field(1e-3, gt=0)
    meta_weight_decay: float = Field(1e-4, ge=0)
    meta_batch_size: int = Field(128, ge=1)
    snapshots: tuple[float, ...] = (0.005, 0.5, 1.0)
