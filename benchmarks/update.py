"""What one update costs and where its time goes, side by side in one run.

    python benchmarks/update.py [--model resnet8] [--precision bf16] [--rounds 5]

Rounds go over all parts in turn, so that a machine whose speed drifts slows every part alike; medians are printed, as
shares of a whole update. Needs CIFAR-10 (see the README); the images of `--dataset digits` come with scikit-learn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from mlrs_cli.learner import Learner
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.settings import MetaTrainSettings
from mlrs_cli.tasks.task import build_task
from mlrs_cli.zoo.reference import resolve


def timed(work: Callable[[], object], times: int) -> float:
    """Milliseconds of one call, over `times` calls."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1e3 * (time.perf_counter() - start) / times


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--model", default="resnet8")
    cli.add_argument("--dataset", default="cifar10")
    cli.add_argument("--precision", default="bf16")
    cli.add_argument("--rounds", type=int, default=5)
    args = cli.parse_args()
    settings = MetaTrainSettings(
        model=args.model, dataset=args.dataset, precision=args.precision, steps=10**6, name="bench", meta_size=1000
    )
    learner = Learner(build_task(settings), settings)
    schedule = resolve("cifar10-resnet18").schedule
    meta = OneStep(every=1)

    def observe() -> Observation:
        return Observation(learner.step, learner.budget, 2.0, learner.num_classes, learner)

    def update() -> None:
        learner.forward_backward()
        learner.update(schedule.lr(observe()))

    def meta_update() -> None:
        learner.forward_backward()
        learner.update(meta.lr(observe()))

    batches = learner.data.train_batches("train", learner.batch_size, 1, 0)
    parts: dict[str, tuple[Callable[[], object], int]] = {
        "update": (update, 10),
        "of it: the batch": (lambda: next(batches), 20),
        "of it: the schedule": (lambda: schedule.lr(observe()), 200),
        "update with a meta-update": (meta_update, 5),
    }
    update(), meta_update()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(args.rounds):
        for name, (work, count) in parts.items():
            times[name].append(timed(work, count))
    whole = statistics.median(times["update"])
    print(f"{args.model} on {args.dataset}, {args.precision}, batch {learner.batch_size}, {args.rounds} rounds")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:28} {middle:9.3f} ms  {middle / whole:7.2%}  (min {min(values):.3f}, max {max(values):.3f})")


if __name__ == "__main__":
    main()
