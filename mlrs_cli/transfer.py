"""`mlrs transfer` as a function: train a model under a schedule."""

from __future__ import annotations

import hashlib
from typing import Any

from accelerate.utils import gather_object

from mlrs_cli.environment import environment
from mlrs_cli.errors import UsageError
from mlrs_cli.learner import Learner, describe_learner, start_facts
from mlrs_cli.optimizers import make_optimizer, require_package
from mlrs_cli.plan import Plan, stored_config
from mlrs_cli.run import RunFolder
from mlrs_cli.schedules.contract import Schedule
from mlrs_cli.schedules.conversion import rate_factor
from mlrs_cli.schedules.named import LEARNED_ONLINE, TUNERS, parse_named
from mlrs_cli.settings import TransferSettings
from mlrs_cli.tasks.task import build_task
from mlrs_cli.track import require_tracker, tracked
from mlrs_cli.train import Watch, train
from mlrs_cli.zoo.reference import Resolved, resolve

__all__ = ["describe", "find_schedule", "transfer"]


def transfer(plan: Plan[TransferSettings], watch: Watch = lambda facts: None) -> dict[str, Any]:
    """Train a model to the end of its budget under a finished schedule, a hand-made one, a tuner or a parameter-free method.

    Args:
        plan: settings and folder, from `plan_run`.
        watch: called with the facts of each update and epoch.

    Returns:
        The run's summary with `schedule`, `model`, `dataset` and `run`, the folder.
    """
    settings = plan.settings
    require_tracker(settings)
    resolved, factor = find_schedule(settings)
    learner = make_learner(resolved, settings)
    folder = RunFolder(plan.path, learner.accelerator.is_main_process)
    identity = identity_of(resolved, factor)
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
        summary = train(learner, resolved.schedule, folder, factor, told)
    return {
        "schedule": resolved.label,
        "model": settings.model,
        "dataset": settings.dataset,
        **summary,
        "run": str(plan.path),
    }


def describe(plan: Plan[TransferSettings]) -> dict[str, Any]:
    """What `transfer` would do, without an update."""
    resolved, factor = find_schedule(plan.settings)
    learner = make_learner(resolved, plan.settings, download=False)
    facts = {"schedule": resolved.label, **describe_learner(learner), "run": str(plan.path)}
    if resolved.schedule.brings:
        facts["optimizer"] = f"{type(learner.raw_optimizer).__name__}, weight decay {plan.settings.weight_decay:g}"
    return facts if factor == 1 else {**facts, "rates": f"those of the schedule times {factor:g}"}


def find_schedule(settings: TransferSettings) -> tuple[Resolved, float]:
    """The schedule of the settings, and the factor on its rates: `lr_scale`, and for a learned one what fits its rates to
    the run's optimizer.

    Raises:
        UsageError: the settings leave the method without something that it needs.
    """
    name = settings.schedule.partition(":")[0]
    plain = rate_factor("sgd", 0.0, settings.optimizer, settings.momentum)
    factor = settings.lr_scale
    if name in LEARNED_ONLINE:
        from mlrs_cli.meta.online import LEARNING

        learning: Any = parse_named(settings.schedule, settings.optimizer, LEARNING)
        learning.scale, learning.seed = plain * settings.lr_scale, settings.seed
        resolved, factor = Resolved(settings.schedule, learning, None), 1.0
    else:
        resolved = resolve(settings.schedule, settings.optimizer)
    if resolved.entry is not None:
        on = resolved.entry.config.learned_on
        # Imported weights do not say; the authors learn with plain SGD.
        factor *= rate_factor(on.optimizer, on.momentum, settings.optimizer, settings.momentum) if on else plain
    check_needs(name, resolved.schedule, settings)
    return resolved, factor


def check_needs(name: str, schedule: Schedule, settings: TransferSettings) -> None:
    """Refuse early what a method cannot do."""
    if schedule.brings:
        require_package(schedule.brings)
    if name in TUNERS and settings.lr_scale != 1:
        raise UsageError(
            f"'{name}' finds its own rate, which --lr-scale {settings.lr_scale:g} would undo: drop the flag"
        )
    if (
        name in TUNERS and settings.precision == "fp16"
    ):  # its scaler lets infinite gradients through, and skips the update
        raise UsageError(f"'{name}' looks at gradients that --precision fp16 spoils now and then: use bf16")
    if schedule.through_updates and settings.grad_clip:
        raise UsageError(f"'{name}' differentiates through updates, and cannot through --grad-clip: drop the flag")
    if schedule.needs_validation and settings.validation_size == 0:
        raise UsageError(f"'{name}' looks at held-out examples and --validation-size is 0: raise it")


def make_learner(resolved: Resolved, settings: TransferSettings, download: bool = True) -> Learner:
    """The learner of the settings, with the optimizer that the schedule brings if it brings one."""
    task = build_task(settings, download)
    brought = resolved.schedule.brings
    optimizer = make_optimizer(task.model.parameters(), settings, brought) if brought else None
    learner = Learner(task, settings, optimizer)
    if resolved.schedule.needs_validation and learner.data.count("validation") < learner.shard.world:
        raise UsageError(
            f"'{settings.schedule}' looks at held-out examples, and {learner.data.count('validation')} of "
            f"'{settings.dataset}' are held out: raise --validation-size"
        )
    return learner


def identity_of(resolved: Resolved, factor: float) -> dict[str, Any]:
    """What a schedule is, whatever its reference was: label, SHA-256 of its weights and method, factor on its rates."""
    scaled = {} if factor == 1 else {"factor": factor}
    if resolved.entry is None:
        return {"label": resolved.label, **scaled}
    content = resolved.entry.weights + resolved.entry.config.method.model_dump_json().encode()
    return {"label": resolved.label, "sha256": hashlib.sha256(content).hexdigest(), **scaled}
