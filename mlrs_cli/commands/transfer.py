"""`mlrs transfer`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlrs_cli.commands import options as o
from mlrs_cli.commands.display import Display, print_json, print_table
from mlrs_cli.plan import plan_run, with_task
from mlrs_cli.settings import TransferSettings

EXAMPLES = [
    "mlrs transfer --schedule cifar10-resnet18 --model shufflenet_v2_x0_5 --dataset digits --epochs 10",
    "mlrs transfer --schedule cosine:lr=0.1 --model resnet8 --dataset digits --steps 100 --json",
    "mlrs transfer --schedule lrtuner --model lenet5 --dataset digits --optimizer adam",
    "mlrs transfer --schedule cifar10-resnet18 --model timm:mobilenetv3_small_050 --dataset digits --dry-run",
]

ScheduleName = Annotated[
    str | None,
    o.option(
        "schedule",
        "An entry of the zoo (NAME or NAME@VERSION), a folder with one, a hand-made one (cosine:lr=0.1), a tuner (hd, "
        "rtho, marthe, l4, lrtuner), a parameter-free method (schedule-free, prodigy, d-adaptation), or mlr-snet or "
        "mlr-scalar, learned during the run. lrtuner is a reconstruction.",
        o.TASK,
        autocompletion=o.complete_schedule,
    ),
]
LrScale = Annotated[float | None, o.option("lr_scale", "A factor on every learning rate.", o.OPTIMIZER)]


def command(
    ctx: typer.Context,
    schedule: ScheduleName = None,
    model: o.Model = None,
    dataset: o.DatasetName = None,
    epochs: o.Epochs = None,
    steps: o.Steps = None,
    evaluate_every: o.EvaluateEvery = None,
    limit_batches: o.LimitBatches = None,
    batch_size: o.BatchSize = None,
    image_size: o.ImageSize = None,
    pretrained: o.Pretrained = None,
    validation_size: o.ValidationSize = None,
    data_dir: o.DataDir = None,
    optimizer: o.OptimizerName = None,
    momentum: o.Momentum = None,
    weight_decay: o.WeightDecay = None,
    lr_scale: LrScale = None,
    grad_accumulation: o.GradAccumulation = None,
    grad_clip: o.GradClip = None,
    label_smoothing: o.LabelSmoothing = None,
    precision: o.Precision = None,
    device: o.Device = None,
    workers: o.Workers = None,
    seed: o.Seed = None,
    deterministic: o.Deterministic = None,
    log: o.Log = None,
    out: o.Out = None,
    resume: o.Resume = None,
    config: o.Config = None,
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a model under a learned schedule or one of its rivals.

    With no --model or --dataset, those that the schedule was learned on.
    """
    given = o.given(ctx, TransferSettings)
    if resume in (None, "auto"):
        given = with_task(given)
    plan = plan_run("transfer", TransferSettings, given, out, resume)
    if print_config:
        typer.echo(o.as_toml(plan.settings), nl=False)
        return
    from mlrs_cli.commands.results import finish
    from mlrs_cli.transfer import describe, transfer

    if dry_run:
        facts = describe(plan)
        print_json(facts) if as_json else print_table("would train", facts)
        return
    with Display(quiet or as_json) as display:
        result = transfer(plan, display.watch)
    finish(result, "trained", as_json)
