"""`mlrs transfer` as a function: train a model under a finished schedule."""

from __future__ import annotations

import hashlib
from typing import Any

from accelerate.utils import gather_object

from mlrs_cli.environment import environment
from mlrs_cli.errors import UsageError
from mlrs_cli.learner import Learner, describe_learner, start_facts
from mlrs_cli.plan import Plan, stored_config
from mlrs_cli.run import RunFolder
from mlrs_cli.settings import TransferSettings
from mlrs_cli.tasks.task import build_task
from mlrs_cli.track import require_tracker, tracked
from mlrs_cli.train import Watch, train
from mlrs_cli.zoo.reference import Resolved, resolve

__all__ = ["describe", "transfer"]


def transfer(plan: Plan[TransferSettings], watch: Watch = lambda facts: None) -> dict[str, Any]:
    """Train a model to the end of its budget under a finished schedule.

    Args:
        plan: settings and folder, from `plan_run`.
        watch: called with the facts of each update and epoch.

    Returns:
        The run's summary with `schedule`, `model`, `dataset` and `run`, the folder.
    """
    settings = plan.settings
    require_tracker(settings)
    resolved = resolve(settings.schedule)
    learner = Learner(build_task(settings), settings)
    folder = RunFolder(plan.path, learner.accelerator.is_main_process)
    identity = identity_of(resolved)
    if any(other != identity for other in gather_object([identity])):
        raise UsageError(
            f"schedule '{settings.schedule}' changed while the processes loaded it: name a version or a commit"
        )
    config = {
        "command": "transfer",
        "settings": settings.model_dump(mode="json"),
        "schedule": identity,
        "num_classes": learner.num_classes,
    }
    if not plan.resumed:
        folder.create(config, environment())
    elif stored_config(plan.path).get("schedule") != identity:
        raise UsageError(
            f"schedule '{settings.schedule}' is no longer the one that {plan.path} was started with: start anew"
        )
    with tracked(settings, plan.path, watch) as told:
        told(start_facts(learner))
        summary = train(learner, resolved.schedule, folder, settings.lr_scale, told)
    return {
        "schedule": resolved.label,
        "model": settings.model,
        "dataset": settings.dataset,
        **summary,
        "run": str(plan.path),
    }


def describe(plan: Plan[TransferSettings]) -> dict[str, Any]:
    """What `transfer` would do, without an update."""
    resolved = resolve(plan.settings.schedule)
    learner = Learner(build_task(plan.settings, download=False), plan.settings)
    return {"schedule": resolved.label, **describe_learner(learner), "run": str(plan.path)}


def identity_of(resolved: Resolved) -> dict[str, str]:
    """What a schedule is, whatever its reference was: label, and SHA-256 of its weights and method."""
    if resolved.entry is None:
        return {"label": resolved.label}
    content = resolved.entry.weights + resolved.entry.config.method.model_dump_json().encode()
    return {"label": resolved.label, "sha256": hashlib.sha256(content).hexdigest()}
