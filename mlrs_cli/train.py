"""A learner under a schedule, to the end of its budget."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlrs_cli.errors import DivergedError, InterruptedRunError
from mlrs_cli.learner import Learner
from mlrs_cli.run import RunFolder
from mlrs_cli.schedules.contract import Observation, Schedule

__all__ = ["Watch", "train"]

CHECKPOINT_SECONDS = 120.0
Watch = Callable[[dict[str, Any]], None]


def train(
    learner: Learner,
    schedule: Schedule,
    folder: RunFolder,
    budget: int,
    lr_scale: float = 1.0,
    watch: Watch = lambda facts: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Train until `budget` updates are taken; start where the folder's checkpoint stands, if it has one.

    The test split is read at the end of an epoch for the report; nothing is decided by it.

    Args:
        learner: at its first update.
        schedule: gives each update's learning rate.
        folder: where the run is kept, already created.
        budget: updates of the whole run.
        lr_scale: a factor on every learning rate.
        watch: called with the facts of each update (`step`, `loss`, `lr`) and each epoch (a row of metrics.csv).
        checkpoint_seconds: time between checkpoints inside an epoch.

    Returns:
        The summary that is written to the folder.

    Raises:
        DivergedError: the loss of an update is not finite; the folder says which.
        InterruptedRunError: SIGINT or SIGTERM came; the run is saved.
    """
    clock = Clock()
    epoch_loss, best = [0.0, 0.0], -1.0  # sum and count of this epoch's losses
    state = folder.load()
    if state is not None:
        learner.load_state_dict(state["learner"])
        schedule.load_state_dict(state["schedule"])
        clock.load(state["seconds"])
        epoch_loss, best = list(state["epoch_loss"]), state["best"]
    folder.rewind(learner.step)
    metrics: dict[str, Any] = {} if state is None else state["metrics"]

    def save() -> None:
        checkpoint = {
            "learner": learner.state_dict(),
            "schedule": schedule.state_dict(),
            "seconds": clock.read(),
            "epoch_loss": epoch_loss,
            "best": best,
            "metrics": metrics,
        }
        folder.save("last.pt", checkpoint)

    def summary(status: str) -> dict[str, Any]:
        seconds = clock.read()
        return {
            "status": status,
            "updates": learner.step,
            "seconds": round(seconds["total"], 3),
            "images_per_second": round(learner.step * learner.images_per_update / max(seconds["training"], 1e-9), 1),
            **{
                k: metrics.get(k)
                for k in ("train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
            },
        }

    saved = time.monotonic()
    with folder, stop_requested() as stop:
        while learner.step < budget:
            with clock.training():
                loss = learner.forward_backward()
                step = learner.step
                if not math.isfinite(loss):
                    folder.summarise({**summary("diverged"), "diverged_at": step + 1})
                    raise DivergedError(
                        f"the training loss of update {step + 1} is {loss}: {folder.path} has the run so far"
                    )
                lr = lr_scale * schedule.lr(Observation(step, budget, loss, learner.num_classes, learner))
                learner.update(lr)
            folder.log_update(learner.step, loss, lr)
            epoch_loss = [epoch_loss[0] + loss, epoch_loss[1] + 1]
            watch({"step": learner.step, "loss": loss, "lr": lr})
            if learner.step % learner.updates_per_epoch == 0 or learner.step == budget:
                metrics = measure(learner, epoch_loss[0] / epoch_loss[1], lr, clock)
                folder.log_epoch(metrics)
                watch(metrics)
                epoch_loss = [0.0, 0.0]
                if metrics.get("validation_accuracy", -1.0) > best:
                    best = metrics["validation_accuracy"]
                    folder.save("best.pt", learner.raw_model.state_dict())
            stopping = agreed(learner, stop)
            at_end = learner.step == budget or learner.step % learner.updates_per_epoch == 0
            if stopping or at_end or time.monotonic() - saved > checkpoint_seconds:
                save()
                saved = time.monotonic()
            if stopping and learner.step < budget:
                folder.summarise(summary("interrupted"))
                raise InterruptedRunError(f"stopped after update {learner.step} of {budget}, saved in {folder.path}")
    result = summary("finished")
    folder.summarise(result)
    return result


def measure(learner: Learner, train_loss: float, lr: float, clock: Clock) -> dict[str, Any]:
    """Metrics at the end of an epoch."""
    row: dict[str, Any] = {
        "step": learner.step,
        "epoch": learner.step / learner.updates_per_epoch,
        "train_loss": train_loss,
    }
    for split in ("validation", "test"):
        if learner.data.count(split):
            row[f"{split}_loss"], row[f"{split}_accuracy"] = learner.evaluate(split)
    return {**row, "lr": lr, "seconds": round(clock.read()["total"], 3)}


def agreed(learner: Learner, stop: list[int]) -> bool:
    """Whether any process was told to stop, so that all stop after the same update."""
    if learner.shard.world == 1:
        return bool(stop)
    if stop:
        learner.accelerator.set_trigger()
    return bool(learner.accelerator.check_trigger())


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


class Clock:
    """Seconds of the whole run and of its updates alone, over all its sessions."""

    def __init__(self) -> None:
        self.start, self.before, self.inside = time.monotonic(), 0.0, 0.0

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the block as training."""
        start = time.monotonic()
        yield
        self.inside += time.monotonic() - start

    def read(self) -> dict[str, float]:
        """Seconds so far."""
        return {"total": self.before + time.monotonic() - self.start, "training": self.inside}

    def load(self, seconds: dict[str, float]) -> None:
        """Continue from a `read`."""
        self.before, self.inside = seconds["total"], seconds["training"]
