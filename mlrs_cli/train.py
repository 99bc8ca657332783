"""A learner under a schedule, to the end of its budget."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mlrs_cli.errors import DivergedError, InterruptedRunError
from mlrs_cli.learner import Learner
from mlrs_cli.run import RunFolder
from mlrs_cli.schedules.contract import LARGEST_RATE, Observation, Schedule

__all__ = ["Watch", "train"]

CHECKPOINT_SECONDS = 120.0
Watch = Callable[[dict[str, Any]], None]


def train(
    learner: Learner,
    schedule: Schedule,
    folder: RunFolder,
    lr_scale: float = 1.0,
    watch: Watch = lambda facts: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Train until the learner's budget is used; start where the folder's checkpoint stands, if it has one.

    Both splits are measured at the end of an epoch, or with `evaluate_every` of the settings the validation split every
    so many updates and the test split at the end. Nothing is decided by the test split.

    Args:
        learner: at its first update.
        schedule: gives each update's learning rate.
        folder: where the run is kept, already created.
        lr_scale: a factor on every learning rate.
        watch: called with the facts of each update (`step`, `loss`, `lr`) and each epoch (a row of metrics.csv).
        checkpoint_seconds: time between checkpoints inside an epoch.

    Returns:
        The summary that is written to the folder.

    Raises:
        DivergedError: the loss of an update is not finite; the folder says which.
        InterruptedRunError: SIGINT or SIGTERM came; the run is saved.
    """
    budget, record = learner.budget, Record()
    period = learner.settings.evaluate_every or learner.updates_per_epoch
    resume(learner, schedule, folder, record)
    saved = time.monotonic()
    with folder, stop_requested() as stop:
        while learner.step < budget:
            with record.training():
                loss = learner.forward_backward()
                if not math.isfinite(loss):
                    raise diverged(learner, folder, record, f"the training loss of update {learner.step + 1} is {loss}")
                lr = lr_scale * schedule.lr(Observation(learner.step, budget, loss, learner.num_classes, learner))
                if not abs(lr) <= LARGEST_RATE:  # a NaN is not, either
                    raise diverged(learner, folder, record, f"the learning rate of update {learner.step + 1} is {lr}")
                learner.update(lr)
            record.add(loss)
            folder.log_update(learner.step, loss, lr)
            watch({"step": learner.step, "loss": loss, "lr": lr})
            at_end = learner.step == budget or learner.step % period == 0
            if at_end:
                measure(learner, folder, record, lr)
                watch(record.metrics)
            stopping, due = agreed(learner, bool(stop), time.monotonic() - saved > checkpoint_seconds)
            if stopping or due or at_end:
                save(learner, schedule, folder, record)
                saved = time.monotonic()
            if stopping and learner.step < budget:
                folder.summarise(summary(learner, record, "interrupted"))
                message = f"stopped after update {learner.step} of {budget}, saved in {folder.path}"
                raise InterruptedRunError(message, folder.path)
    if not all(math.isfinite(record.metrics[name]) for name in record.metrics if name.endswith("_loss")):
        raise diverged(learner, folder, record, f"the loss after update {learner.step}, the last, is not finite")
    result = summary(learner, record, "finished")
    folder.summarise(result)
    return result


class Record:
    """What a run has gathered besides weights: losses of this epoch, metrics of the last, best accuracy, seconds."""

    def __init__(self) -> None:
        self.loss_sum, self.loss_count, self.best = 0.0, 0, -1.0
        self.metrics: dict[str, Any] = {}
        self.start, self.earlier, self.updating = time.monotonic(), 0.0, 0.0

    def add(self, loss: float) -> None:
        """Count the loss of one update."""
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time of the block as updating, apart from evaluation and checkpoints."""
        start = time.monotonic()
        yield
        self.updating += time.monotonic() - start

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, over all its sessions."""
        return self.earlier + time.monotonic() - self.start

    def state_dict(self) -> dict[str, Any]:
        """Everything, as numbers."""
        names = ("loss_sum", "loss_count", "best", "metrics", "updating")
        return {name: getattr(self, name) for name in names} | {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name in ("loss_sum", "loss_count", "best", "metrics", "updating"):
            setattr(self, name, state[name])
        self.earlier = state["seconds"]


def save(learner: Learner, schedule: Schedule, folder: RunFolder, record: Record) -> None:
    """Write the checkpoint that `resume` reads. Every process calls it, the main one writes."""
    parts = {"learner": learner.state_dict(), "schedule": schedule.state_dict(), "record": record.state_dict()}
    folder.save("last.pt", parts)


def resume(learner: Learner, schedule: Schedule, folder: RunFolder, record: Record) -> None:
    """Continue from the folder's checkpoint, if there is one, and forget what was logged after it."""
    state = folder.load()
    if state is not None:
        learner.load_state_dict(state["learner"])
        schedule.load_state_dict(state["schedule"])
        record.load_state_dict(state["record"])
    folder.rewind(learner.step)


def summary(learner: Learner, record: Record, status: str) -> dict[str, Any]:
    """How the run stands."""
    names = ("train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
    return {
        "status": status,
        "updates": learner.step,
        "seconds": round(record.seconds, 3),
        "update_seconds": round(record.updating, 3),
        "images_per_second": round(learner.step * learner.images_per_update / max(record.updating, 1e-9), 1),
        "extra_forward": round(learner.extra_forward, 3),
        "extra_backward": round(learner.extra_backward, 3),
        **{name: record.metrics.get(name) for name in names},
    }


def diverged(learner: Learner, folder: RunFolder, record: Record, what: str) -> DivergedError:
    """Note the end of the run and say what happened."""
    folder.summarise({**summary(learner, record, "diverged"), "diverged_at": learner.step + 1})
    return DivergedError(
        f"{what}: try a lower rate (lr= of the schedule, --lr-scale, --meta-lr) or another schedule "
        f"(the run so far is in {folder.path})"
    )


def measure(learner: Learner, folder: RunFolder, record: Record, lr: float) -> None:
    """Measure, log, and keep the weights of the best validation accuracy, as they are judged."""
    step = learner.step
    row = {"step": step, "epoch": step / learner.updates_per_epoch, "train_loss": record.loss_sum / record.loss_count}
    splits = [split for split in ("validation", "test") if learner.data.count(split)]
    if learner.settings.evaluate_every and step < learner.budget:
        splits = [split for split in splits if split != "test"]
    with learner.evaluation_weights():
        for split in splits:
            row[f"{split}_loss"], row[f"{split}_accuracy"] = learner.evaluate(split)
        record.metrics = {**row, "lr": lr, "seconds": round(record.seconds, 3)}
        record.loss_sum, record.loss_count = 0.0, 0
        folder.log_epoch(record.metrics)
        score = row.get("validation_accuracy", float(step))  # with nothing held out the last weights are the best
        if score > record.best:
            record.best = score
            folder.save("best.pt", learner.raw_model.state_dict())


def agreed(learner: Learner, *flags: bool) -> list[bool]:
    """Each flag, if any process raises it: all processes save, and stop, after the same update."""
    if learner.shard.world == 1:
        return list(flags)
    raised = torch.tensor([float(flag) for flag in flags], device=learner.device)
    return [count > 0 for count in learner.accelerator.reduce(raised, "sum").tolist()]


@contextmanager
def stop_requested() -> Iterator[list[int]]:
    """A list that is no longer empty once SIGINT or SIGTERM came; a second signal ends the program at once."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs the thread handles signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
