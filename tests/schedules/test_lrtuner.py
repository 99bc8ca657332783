"""LRTuner on slices of which the minimiser is known, and on slices it must refuse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from unrolled import smooth_learner

from mlrs_cli.direction import direction
from mlrs_cli.errors import UsageError
from mlrs_cli.schedules import Observation
from mlrs_cli.schedules.lrtuner import LENGTHS, LRTuner, minimiser


class Slice:
    """A probe whose loss along the direction is a function; it counts what it was asked."""

    def __init__(self, loss: Callable[[float], float]) -> None:
        self.loss, self.asked = loss, 0

    def losses_after(self, rates: Sequence[float], batches: int) -> list[float]:
        self.asked += 1
        return [self.loss(rate) for rate in rates]


class Slices(Slice):
    """One slice after another."""

    def __init__(self, losses: Sequence[Callable[[float], float]]) -> None:
        super().__init__(losses[0])
        self.losses = list(losses)

    def losses_after(self, rates: Sequence[float], batches: int) -> list[float]:
        self.loss = self.losses[self.asked]
        return super().losses_after(rates, batches)


def bowl(lowest: float) -> Callable[[float], float]:
    return lambda rate: 1.0 + 3.0 * (rate - lowest) ** 2


@pytest.mark.parametrize("lowest", [1e-6, 0.003, 0.1, 7.5])
def test_the_minimiser_of_a_parabola_is_found(lowest: float) -> None:
    lengths = [share * lowest * 0.7 for share in LENGTHS]
    losses = [1 + 3 * (length / lowest - 1) ** 2 for length in lengths]
    assert minimiser(lengths, losses, 0.999) == pytest.approx(lowest, rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([3.0, 2.9, 2.6, 1.4], "not convex"),
        ([3.0, 2.0, 1.0, -1.0], "a line"),
        ([1.0, 1.2, 1.6, 3.0], "ascending from the start"),
        ([2.0, 2.0, 2.0, 2.0], "flat"),
        ([2.0, 1.0, 2.5, 2.6], "a bad fit"),
        ([2.0, 1.0, math.inf, 2.0], "infinite"),
        ([2.0, 1.0, math.nan, 2.0], "not a number"),
    ],
)
def test_a_slice_that_is_no_bowl_is_refused(losses: list[float], why: str) -> None:
    assert minimiser([0.0, 0.5, 1.0, 2.0], losses, 0.9) is None, why


def test_a_worse_fit_is_taken_where_it_is_allowed() -> None:
    lengths, losses = [0.0, 0.5, 1.0, 2.0], [2.0, 1.0, 1.2, 2.6]
    fit = np.polynomial.Polynomial.fit(lengths, losses, 2).convert()
    left = np.sum((fit(np.array(lengths)) - losses) ** 2) / np.sum((np.array(losses) - np.mean(losses)) ** 2)
    assert 0.01 < left < 0.1
    assert minimiser(lengths, losses, 1 - left + 1e-6) is None
    assert minimiser(lengths, losses, 1 - left - 1e-6) == pytest.approx(-fit.coef[1] / (2 * fit.coef[2]))


def tuned(probe: Slice, losses: Sequence[float], **changes: Any) -> list[float]:
    """Rates of an LRTuner that tunes at every update."""
    schedule, budget = LRTuner(**({"every": 1, "start": 0.1} | changes)), len(losses)
    return [schedule.lr(Observation(step, budget, loss, 10, probe)) for step, loss in enumerate(losses)]  # type: ignore[arg-type]


def test_exploiting_takes_the_minimiser_within_a_bound() -> None:
    assert tuned(Slice(bowl(0.15)), [2.0] * 3, explore=0.0)[1:] == pytest.approx([0.15, 0.15])
    assert tuned(Slice(bowl(0.06)), [2.0] * 3, explore=0.0) == pytest.approx([0.06, 0.06, 0.06])
    assert tuned(Slice(bowl(5.0)), [2.0] * 4, explore=0.0, growth=1.5) == pytest.approx([0.15, 0.225, 0.3375, 0.50625])
    assert tuned(Slice(bowl(1e-4)), [2.0] * 4, explore=0.0, growth=4.0) == pytest.approx(
        [0.025, 0.00625, 0.0015625, 0.000390625]
    )


def test_exploring_keeps_a_larger_rate_while_the_loss_falls() -> None:
    first = tuned(Slice(bowl(0.06)), [2.0, 1.9, 1.8, 1.7], explore=1.0)
    assert first == pytest.approx([0.06] * 4)  # nothing is known of the loss at the first tuning
    narrowing = [bowl(0.15), bowl(0.06), bowl(0.06), bowl(0.06)]
    assert tuned(Slices(narrowing), [2.0, 1.9, 1.8, 1.7], explore=1.0) == pytest.approx([0.15] * 4)
    assert tuned(Slice(bowl(0.15)), [2.0, 1.9], explore=1.0) == pytest.approx([0.15, 0.15])
    risen = tuned(Slices(narrowing), [2.0, 1.9, 1.95, 1.7], explore=1.0)
    assert risen == pytest.approx([0.15, 0.15, 0.075, 0.075])  # at most by the factor 2, and kept while the loss falls
    half = tuned(Slices(narrowing), [2.0, 1.9, 1.8, 1.7], explore=0.5)
    assert half == pytest.approx([0.15, 0.15, 0.075, 0.06])


def test_without_a_fit_only_the_plain_cases_move_the_rate() -> None:
    falling, rising, flat, uneven = (lambda r: -r), (lambda r: r), (lambda r: 2.0), (lambda r: 1 - math.sin(40 * r))
    assert tuned(Slice(falling), [2.0] * 3, explore=0.0) == pytest.approx([0.2, 0.4, 0.8])
    assert tuned(Slice(rising), [2.0] * 3, explore=0.0) == pytest.approx([0.05, 0.025, 0.0125])
    assert tuned(Slice(lambda r: math.inf if r else 1.0), [2.0] * 2, explore=0.0) == pytest.approx([0.05, 0.025])
    assert tuned(Slice(uneven), [2.0] * 3, explore=0.0) == [0.1] * 3
    assert tuned(Slice(flat), [2.0] * 3, explore=0.0) == [0.1] * 3  # a rate lost in rounding is left where it is


def test_it_is_asked_every_so_many_updates() -> None:
    probe = Slice(bowl(0.2))
    schedule = LRTuner(every=4)
    rates = [schedule.lr(Observation(step, 10, 1.0, 10, probe)) for step in range(10)]  # type: ignore[arg-type]
    assert probe.asked == 3
    assert rates == [pytest.approx(0.2)] * 10


@pytest.mark.parametrize("changes", [{"growth": 1.0}, {"growth": 0.5}, {"fit": 1.1}, {"explore": 1.5}, {"every": 0}])
def test_settings_of_lrtuner_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        LRTuner(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.01}, {"optimizer": "adam"}, {"optimizer": "adamw"}],
    ids=["sgd", "momentum", "momentum decay", "adam", "adamw"],
)
def test_on_a_quadratic_it_takes_the_exact_minimiser_along_the_optimizers_direction(
    settings: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    learner = smooth_learner(settings, **changes)
    count = sum(p.numel() for p in learner.params)
    curvatures = torch.linspace(0.5, 4.0, count, dtype=torch.float64)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        w = torch.cat([p.flatten() for p in learner.params])
        return (curvatures * w * w).sum() / 2 + 0.0 * logits.sum()

    monkeypatch.setattr(learner, "task", dataclasses.replace(learner.task, train_loss=loss))
    for _ in range(3):  # so that momentum and Adam have a past
        learner.forward_backward()
        learner.update(1e-3)
    value = learner.forward_backward()
    d = torch.cat([d.flatten() for d in direction(learner.raw_optimizer)])
    w = torch.cat([p.detach().flatten() for p in learner.params])
    exact = float((curvatures * w * d).sum() / (curvatures * d * d).sum())
    schedule = LRTuner(start=0.7 * exact, every=1, explore=0.0, fit=0.999)
    observation = Observation(learner.step, 9, value, 10, learner)
    assert schedule.lr(observation) == pytest.approx(exact, rel=1e-6)
