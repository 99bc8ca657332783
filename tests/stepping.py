"""A learner led by a schedule, one question and one update at a time."""

from __future__ import annotations

from collections.abc import Callable

from mlrs_cli.learner import Learner
from mlrs_cli.schedules import Observation, Schedule


def taken(learner: Learner, schedule: Schedule, updates: int, look: Callable[[], None] = lambda: None) -> list[float]:
    """Rates of so many updates; `look` is called before each question."""
    rates = []
    for _ in range(updates):
        loss = learner.forward_backward()
        look()
        rates.append(schedule.lr(Observation(learner.step, updates, loss, learner.num_classes, learner)))
        learner.update(rates[-1])
    return rates
