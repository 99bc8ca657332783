"""`mlrs meta-train` as a function: learn a schedule while a learner trains under it, and keep it as an entry."""

from __future__ import annotations

import json
from typing import Any

from mlrs_cli.environment import environment
from mlrs_cli.learner import Learner, describe_learner, start_facts
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.plan import Plan
from mlrs_cli.run import RunFolder, read_run
from mlrs_cli.settings import MetaTrainSettings
from mlrs_cli.tasks.task import build_task
from mlrs_cli.track import require_tracker, tracked
from mlrs_cli.train import Watch, train
from mlrs_cli.zoo.config import check_config
from mlrs_cli.zoo.entry import Entry, curve_rows, write_entry

__all__ = ["describe", "meta_train"]


def meta_train(plan: Plan[MetaTrainSettings], watch: Watch = lambda facts: None) -> dict[str, Any]:
    """Learn a schedule in one run and write it as an entry into the run's folder, under its name.

    Args:
        plan: settings and folder, from `plan_run`.
        watch: called with the facts of each update and epoch.

    Returns:
        The run's summary with `schedule`, `model`, `dataset`, `run` and `entry`, the folder of the entry.
    """
    settings = plan.settings
    require_tracker(settings)
    learner = Learner(build_task(settings), settings)
    schedule, where = make_meta_learner(settings), environment()
    draft = entry_config(learner, settings, 0, {}, where)
    check_config({"format_version": 1, **draft, "files": {}}, "the entry to be")  # now, not after hours of training
    folder = RunFolder(plan.path, learner.accelerator.is_main_process)
    if not plan.resumed:
        stored = {"settings": settings.model_dump(mode="json"), "num_classes": learner.num_classes}
        folder.create({"command": "meta-train", **stored}, where)
    with tracked(settings, plan.path, watch) as told:
        told(start_facts(learner))
        summary = train(learner, schedule, folder, watch=told)
    if folder.write:
        keep(schedule, learner, settings, folder, summary)
    return {
        "schedule": f"{settings.name}@{settings.entry_version}",
        "model": settings.model,
        "dataset": settings.dataset,
        **summary,
        "meta_updates": schedule.meta_updates,
        "run": str(plan.path),
        "entry": str(plan.path / settings.name),
    }


def describe(plan: Plan[MetaTrainSettings]) -> dict[str, Any]:
    """What `meta_train` would do, without an update."""
    settings = plan.settings
    schedule, learner = make_meta_learner(settings), Learner(build_task(settings, download=False), settings)
    meta = f"{-(-learner.budget // schedule.every)} meta-updates, one every {schedule.every} updates"
    return {
        "schedule": f"{settings.name}@{settings.entry_version}",
        **describe_learner(learner),
        "learning": meta,
        "run": str(plan.path),
    }


def make_meta_learner(settings: MetaTrainSettings) -> OneStep:
    """The meta-learner of the settings, at its first update."""
    return OneStep(
        every=settings.meta_every,
        meta_lr=settings.meta_lr,
        meta_weight_decay=settings.meta_weight_decay,
        snapshots=settings.snapshots,
        cell=settings.cell,
        seed=settings.seed,
        learns=settings.learns,
    )


def keep(
    schedule: OneStep, learner: Learner, settings: MetaTrainSettings, folder: RunFolder, summary: dict[str, Any]
) -> Entry:
    """Write the entry of a finished run."""
    results = {
        "test_accuracy": summary["test_accuracy"],
        "test_loss": summary["test_loss"],
        "meta_accuracy": summary["validation_accuracy"],
        "train_loss": summary["train_loss"],
        "seconds": summary["seconds"],
    }
    where = json.loads((folder.path / "environment.json").read_text())  # of the run, not of a later resume
    config = entry_config(learner, settings, schedule.meta_updates, results, where)
    weights = [{name: value.numpy() for name, value in kept.items()} for kept in schedule.kept]
    curve = curve_rows(read_run(folder.path)["updates"])
    return write_entry(folder.path / settings.name, config, weights, {settings.seed: curve})


def entry_config(
    learner: Learner, settings: MetaTrainSettings, meta_updates: int, results: dict[str, Any], where: dict[str, Any]
) -> dict[str, Any]:
    """What the entry says of itself. The snapshots divide the budget into equal stages, as the paper transfers them."""
    count = len(settings.snapshots)
    stages = [{"start": i / count, "kept_after": share} for i, share in enumerate(settings.snapshots)]
    gamma = {"rule": "mlr-snet", "measured": "once"}  # as it was while the schedule was learned
    return {
        "name": settings.name,
        "version": settings.entry_version,
        "description": settings.description or f"Learned on {settings.model} / {settings.dataset}.",
        "license": "MIT",
        "method": {"name": "mlr-snet", "cell": settings.cell, "gamma": gamma, "stages": stages},
        "learned_on": {
            "dataset": settings.dataset,
            "model": settings.model,
            "updates": learner.budget,
            "epochs": float(f"{learner.budget / learner.updates_per_epoch:.4g}"),
            "batch_size": learner.images_per_update,
            "optimizer": settings.optimizer,
            "momentum": settings.momentum,
            "weight_decay": settings.weight_decay,
            "precision": settings.precision,
            "train_examples": learner.data.count("train"),
            "meta_examples": learner.data.count("validation"),
            "seeds": [settings.seed],
        },
        "meta_learner": {
            "name": "one-step" if settings.learns == "network" else "one-step-scalar",
            "every": settings.meta_every,
            "updates": meta_updates,
            "batch_size": settings.meta_batch_size,
            "lr": settings.meta_lr,
            "weight_decay": settings.meta_weight_decay,
        },
        "results": results,
        "command": command_line(settings),
        "environment": where,
    }


def command_line(settings: MetaTrainSettings) -> str:
    """The command that repeats the run: every setting that is not the default, none that names a place."""
    words = ["mlrs meta-train"]
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name in ("data_dir", "device", "workers", "log", "description", "entry_version") or value == field.default:
            continue
        flag = "--" + name.replace("_", "-")
        words.append(
            flag if value is True else f"{flag} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
        )
    return " ".join(words)
