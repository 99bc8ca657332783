"""`mlrs meta-train`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlrs_cli.commands import options as o
from mlrs_cli.commands.display import Display, print_json, print_table
from mlrs_cli.plan import plan_run
from mlrs_cli.settings import MetaTrainSettings

EXAMPLES = [
    "mlrs meta-train --model resnet8 --dataset digits --epochs 3 --meta-every 5 --meta-size 100 --name my-schedule",
    "mlrs meta-train --model resnet8 --dataset digits --name my-schedule --print-config",
]

Name = Annotated[str | None, o.option("name", "Name of the schedule: lower-case letters, digits, . _ -", o.LEARNING)]
EntryVersion = Annotated[str | None, o.option("entry_version", "Version of the entry, as in 0.1.0.", o.LEARNING)]
Description = Annotated[str | None, o.option("description", "One line for the card.", o.LEARNING)]
Learns = Annotated[
    str | None,
    o.option(
        "learns", "network, or scalar: one number in its place, the ablation that shows what it adds.", o.LEARNING
    ),
]
Cell = Annotated[str | None, o.option("cell", "Which published cell to learn: transfer or meta-train.", o.LEARNING)]
MetaEvery = Annotated[int | None, o.option("meta_every", "Updates from one meta-update to the next.", o.LEARNING)]
MetaLr = Annotated[float | None, o.option("meta_lr", "Adam's learning rate on the schedule.", o.LEARNING)]
MetaDecay = Annotated[float | None, o.option("meta_weight_decay", "Weight decay on the schedule.", o.LEARNING)]
MetaSize = Annotated[
    int | None,
    o.option(
        "meta_size",
        "Training images held out, class-balanced, as meta data. [default: 2 %]",
        o.LEARNING,
    ),
]
MetaBatchSize = Annotated[int | None, o.option("meta_batch_size", "Images of a meta-update.", o.LEARNING)]
Snapshots = Annotated[
    str | None,
    o.option("snapshots", "Shares of the budget after which the network is kept; each is a stage.", o.LEARNING),
]


def command(
    ctx: typer.Context,
    model: o.Model = None,
    dataset: o.DatasetName = None,
    epochs: o.Epochs = None,
    steps: o.Steps = None,
    evaluate_every: o.EvaluateEvery = None,
    limit_batches: o.LimitBatches = None,
    batch_size: o.BatchSize = None,
    image_size: o.ImageSize = None,
    pretrained: o.Pretrained = None,
    data_dir: o.DataDir = None,
    name: Name = None,
    entry_version: EntryVersion = None,
    description: Description = None,
    meta_every: MetaEvery = None,
    meta_lr: MetaLr = None,
    meta_weight_decay: MetaDecay = None,
    meta_size: MetaSize = None,
    meta_batch_size: MetaBatchSize = None,
    snapshots: Snapshots = None,
    cell: Cell = None,
    learns: Learns = None,
    optimizer: o.OptimizerName = None,
    momentum: o.Momentum = None,
    weight_decay: o.WeightDecay = None,
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
    """Learn a schedule of your own while a model trains under it.

    Ends with an entry: a folder that mlrs transfer --schedule takes.
    """
    plan = plan_run("meta-train", MetaTrainSettings, o.given(ctx, MetaTrainSettings), out, resume)
    if print_config:
        typer.echo(o.as_toml(plan.settings), nl=False)
        return
    from mlrs_cli.commands.results import finish
    from mlrs_cli.meta.meta_train import describe, meta_train

    if dry_run:
        facts = describe(plan)
        print_json(facts) if as_json else print_table("would meta-train", facts)
        return
    with Display(quiet or as_json) as display:
        result = meta_train(plan, display.watch)
    finish(result, "learned", as_json)
