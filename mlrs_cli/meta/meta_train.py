"""`mlrs meta-train` as a function: learn a schedule while a learner trains under it."""

from __future__ import annotations

from typing import Any

from mlrs_cli.learner import Learner
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.run import RunFolder
from mlrs_cli.settings import MetaTrainSettings
from mlrs_cli.train import Watch, train

__all__ = ["make_meta_learner", "meta_train"]


def make_meta_learner(settings: MetaTrainSettings) -> OneStep:
    """The meta-learner of the settings, at its first update."""
    return OneStep(
        every=settings.meta_every,
        meta_lr=settings.meta_lr,
        meta_weight_decay=settings.meta_weight_decay,
        snapshots=settings.snapshots,
        cell=settings.cell,
        seed=settings.seed,
    )


def meta_train(
    learner: Learner, settings: MetaTrainSettings, folder: RunFolder, watch: Watch = lambda facts: None
) -> tuple[OneStep, dict[str, Any]]:
    """Train `learner` to the end of its budget under a schedule that learns.

    Returns:
        The meta-learner with its snapshots, and the run's summary.
    """
    schedule = make_meta_learner(settings)
    summary = train(learner, schedule, folder, learner.budget, watch=watch)
    return schedule, {**summary, "meta_updates": schedule.meta_updates}
