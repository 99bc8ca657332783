"""What a run is asked to do, checked once, kept with it, compared when it is resumed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["MetaTrainSettings", "RunSettings", "TransferSettings"]


class RunSettings(BaseModel):
    """The task, the optimizer and the budget of one run. Budget: `steps`, or `epochs` where `steps` is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str
    dataset: str
    epochs: int = Field(10, ge=1)
    steps: int | None = Field(None, ge=1)
    evaluate_every: int | None = Field(None, ge=1)
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
    seed: int = Field(0, ge=0, lt=2**63)
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = "auto"
    workers: int = Field(0, ge=0)
    data_dir: str | None = None
    log: Literal["tensorboard", "wandb", "trackio"] | None = None

    @property
    def held_out(self) -> int | None:
        """Training examples to hold out; None leaves the number to the task."""
        return None


class TransferSettings(RunSettings):
    """A run under a finished schedule."""

    schedule: str
    lr_scale: float = Field(1.0, gt=0)
    validation_size: int | None = Field(None, ge=0)

    @property
    def held_out(self) -> int | None:
        """Validation examples."""
        return self.validation_size


def listed(value: Any) -> Any:
    """A list of numbers, also written with commas."""
    return value.split(",") if isinstance(value, str) else value


class MetaTrainSettings(RunSettings):
    """A run that learns its schedule. The held-out split is the meta data."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    entry_version: str = Field("0.1.0", pattern=r"^\d{1,4}\.\d{1,4}\.\d{1,4}$")
    description: str | None = Field(None, max_length=2000)
    cell: Literal["transfer", "meta-train"] = "transfer"
    learns: Literal["network", "scalar"] = "network"
    meta_every: int = Field(300, ge=1)
    meta_lr: float = Field(1e-3, gt=0)
    meta_weight_decay: float = Field(1e-4, ge=0)
    meta_size: int | None = Field(None, ge=1)
    meta_batch_size: int = Field(128, ge=1)
    snapshots: Annotated[tuple[float, ...], BeforeValidator(listed)] = Field(
        (0.005, 0.5, 1.0), min_length=1, max_length=100
    )

    @property
    def held_out(self) -> int | None:
        """Meta examples."""
        return self.meta_size
