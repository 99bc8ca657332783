"""Options that several commands share, each declared once. Their defaults stand in `mlrs_cli.settings`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mlrs_cli.errors import NotFoundError, UsageError, nearest
from mlrs_cli.settings import MetaTrainSettings, RunSettings, TransferSettings

S = TypeVar("S", bound=RunSettings)

TASK, OPTIMIZER, HARDWARE, RUN, LEARNING = "Task", "Optimizer", "Machine", "Run", "Learning the schedule"


def option(name: str, text: str, panel: str, *flags: str, **more: Any) -> Any:
    """An option that stands for a setting, with its default and its environment variable MLRS_<NAME>."""
    default: Any = None
    for kind in (TransferSettings, MetaTrainSettings):
        field = kind.model_fields.get(name)
        default = default if field is None or field.is_required() else field.default
    if isinstance(default, tuple):
        default = ",".join(f"{v:g}" for v in default)
    if default is not None and not isinstance(default, bool):
        text = f"{text} [default: {default}]"
    text = text.replace("[default", "\\[default")  # or Rich would read it as markup
    return typer.Option(
        *flags, help=text, envvar=f"MLRS_{name.upper()}", show_envvar=False, rich_help_panel=panel, **more
    )


def complete_schedule(incomplete: str) -> list[str]:
    """Names for shell completion: no network, no torch."""
    from mlrs_cli.zoo.reference import schedule_names

    return [name for name in schedule_names() if name.startswith(incomplete)]


# fmt: off
Model = Annotated[str | None, option("model", "Ours (resnet8, resnet8-slim, resnet18, resnet20, wrn-28-10, lenet5, mlp, vit-mini), any torchvision classifier, timm:NAME or hf-hub:ORG/REPO.", TASK)]
DatasetName = Annotated[str | None, option("dataset", "digits, mnist, fashion-mnist, cifar10, cifar100, svhn, stl10, any other torchvision classification set, or folder:PATH.", TASK)]
Epochs = Annotated[int | None, option("epochs", "Passes over the training images.", TASK)]
Steps = Annotated[int | None, option("steps", "Updates of the whole run, instead of --epochs.", TASK)]
EvaluateEvery = Annotated[int | None, option("evaluate_every", "Measure the validation split every so many updates, and the test split at the end only. [default: both every epoch]", TASK)]
LimitBatches = Annotated[int | None, option("limit_batches", "At most so many updates an epoch and test batches an evaluation; for trying things out.", TASK)]
BatchSize = Annotated[int | None, option("batch_size", "Images of one forward pass of one process.", TASK)]
Pretrained = Annotated[bool | None, option("pretrained", "Start from published weights.", TASK, "--pretrained/--no-pretrained")]
ImageSize = Annotated[int | None, option("image_size", "Resize images to this many pixels; by default their own size, 224 for large images.", TASK)]
ValidationSize = Annotated[int | None, option("validation_size", "Training images held out, class-balanced, for validation. [default: 2 %]", TASK)]
DataDir = Annotated[str | None, option("data_dir", "Where data sets lie. [default: $MLRS_DATA or ~/.cache/mlrs/data]", TASK)]
OptimizerName = Annotated[str | None, option("optimizer", "sgd, adam or adamw.", OPTIMIZER)]
Momentum = Annotated[float | None, option("momentum", "Momentum of SGD; first beta of Adam, there 0.9 unless set.", OPTIMIZER)]
WeightDecay = Annotated[float | None, option("weight_decay", "Weight decay.", OPTIMIZER)]
GradAccumulation = Annotated[int | None, option("grad_accumulation", "Batches whose gradients are averaged in one update.", OPTIMIZER)]
GradClip = Annotated[float | None, option("grad_clip", "Largest norm of the gradient.", OPTIMIZER)]
LabelSmoothing = Annotated[float | None, option("label_smoothing", "Share of the target spread over all classes.", OPTIMIZER)]
Precision = Annotated[str | None, option("precision", "fp32, bf16 or fp16 (GPU only); weights and schedule stay fp32.", HARDWARE)]
Device = Annotated[str | None, option("device", "auto, cpu, cuda, mps or xpu.", HARDWARE)]
Workers = Annotated[int | None, option("workers", "Processes that decode images of large sets; small sets need none.", HARDWARE)]
Seed = Annotated[int | None, option("seed", "Decides initial weights, held-out images, order and augmentation.", RUN)]
Deterministic = Annotated[bool | None, option("deterministic", "Refuse operations whose result may vary from run to run.", RUN, "--deterministic/--no-deterministic")]
Log = Annotated[str | None, option("log", "Also log to tensorboard, wandb or trackio.", RUN)]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder. \\[default: a new one under runs/]", rich_help_panel=RUN)]
Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN|auto", help="Continue a run folder, or the newest unfinished run of the same settings.", rich_help_panel=RUN)]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of options; flags and MLRS_* variables win over it.", rich_help_panel=RUN, is_eager=True, callback=lambda ctx, value: read_config(ctx, value))]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved options as TOML and stop.", rich_help_panel=RUN)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve schedule, model and data, print the plan and stop.", rich_help_panel=RUN)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.", rich_help_panel=RUN)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=RUN)]
# fmt: on


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the options of a TOML file the defaults of this call. Unknown keys are errors."""
    if path is None:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"no config file {path}: check --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    flags = {opt[2:]: p.name for p in ctx.command.params for opt in p.opts if opt.startswith("--")}
    values = {}
    for key, value in content.items():
        name = flags.get(key.replace("_", "-"))
        if name in (None, "config", "help"):
            known = set(flags) - {"config", "help"}
            raise UsageError(f"{path} sets '{key}', which is no option of mlrs {ctx.info_name}: {nearest(key, known)}")
        values[name] = value
    flat = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in values.items()}
    ctx.default_map = {**(ctx.default_map or {}), **flat}
    return path


def given(ctx: typer.Context, kind: type[S]) -> dict[str, Any]:
    """The settings that this call names, by flag, variable or file; of --epochs and --steps the one named closer by."""
    values = {k: v for k, v in ctx.params.items() if k in kind.model_fields and v is not None}
    if {"epochs", "steps"} <= values.keys():
        places = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
        near = {name: places.index(ctx.get_parameter_source(name).name) for name in ("epochs", "steps")}  # type: ignore[union-attr]
        if near["epochs"] == near["steps"]:
            raise UsageError("--epochs and --steps both name the length of the run: give one")
        del values["epochs" if near["steps"] < near["epochs"] else "steps"]
    return values


def as_toml(settings: RunSettings) -> str:
    """Settings as a file for --config. Absent ones are left out."""
    import json

    lines = []
    for name, value in settings.model_dump(mode="json").items():
        if value is not None and not (name == "epochs" and settings.steps):
            lines.append(f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def main_process() -> bool:
    """Whether this process is the one that prints, under torchrun too."""
    return os.environ.get("RANK", "0") == "0"
