"""HD, RTHO and MARTHE against their papers' formulas written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from stepping import taken
from unrolled import Run, peek_meta_batch, smooth_learner

from mlrs_cli.schedules import Observation
from mlrs_cli.schedules.hd import HD
from mlrs_cli.schedules.marthe import MARTHE
from mlrs_cli.schedules.rtho import RTHO


def flat(tensors: Sequence[torch.Tensor | None]) -> np.ndarray:
    return np.concatenate([t.detach().flatten().numpy() for t in tensors if t is not None])


def hd_written_out(gradients: list[np.ndarray], how: str, start: float, beta: float) -> list[float]:
    """Baydin et al.: algorithms 4 (SGD-HD), 5 with plain momentum in Nesterov's place, and 6 (Adam-HD)."""
    rates, rate = [], start
    m, v, last = 0.0, 0.0, np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, start=1):
        rate = max(0.0, rate - beta * g @ last)
        rates.append(rate)
        if how == "adam":
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            last = -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        else:
            m = (0.9 if how == "momentum" else 0.0) * m + g
            last = -m
    return rates


@pytest.mark.parametrize(
    ("how", "settings_of", "start", "beta"),
    [
        ("sgd", {}, 0.1, 0.05),
        ("momentum", {"momentum": 0.9}, 0.02, 0.001),
        ("adam", {"optimizer": "adam"}, 1e-3, 1e-5),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_hd_is_the_papers_formula(settings: Any, how: str, settings_of: Any, start: float, beta: float) -> None:
    learner = smooth_learner(settings, **settings_of)
    gradients: list[np.ndarray] = []
    rates = taken(learner, HD(start, beta), 12, lambda: gradients.append(flat([p.grad for p in learner.params])))
    assert rates == pytest.approx(hd_written_out(gradients, how, start, beta), rel=1e-9)
    assert len(set(rates)) == 12


@pytest.mark.parametrize(
    ("changes", "start", "beta"),
    [({}, 0.3, 1e-2), ({"momentum": 0.9, "weight_decay": 0.01}, 0.05, 1e-4), ({"optimizer": "adamw"}, 0.01, 1e-5)],
    ids=["sgd", "momentum", "adamw"],
)
def test_rtho_descends_the_validation_loss_through_the_whole_run(
    settings: Any, changes: dict[str, Any], start: float, beta: float
) -> None:
    learner = smooth_learner(settings, **changes)
    run, schedule, rate = Run(learner, learner.raw_optimizer), RTHO(start, beta), start
    for step in range(6):
        loss = learner.forward_backward()
        if step:
            rate -= beta * run.slope(peek_meta_batch(learner))
        assert schedule.lr(Observation(step, 6, loss, 10, learner)) == pytest.approx(rate, rel=1e-8)
        learner.update(rate)
        run.update(learner.current, rate)
    assert abs(rate / start - 1) > 1e-3


class Says:
    """A probe with answers written down; it keeps what it was told to carry."""

    def __init__(self, slopes: Sequence[float], agreements: Sequence[float] = ()) -> None:
        self.answers = list(zip(slopes, agreements or [0.0] * len(slopes), strict=True))
        self.slopes = list(slopes)
        self.carried: list[tuple[float, float]] = []

    def train_slope(self) -> float:
        return self.slopes.pop(0)

    def validation_slopes(self) -> tuple[float, float]:
        return self.answers.pop(0)

    def carry_tangent(self, lr: float, decay: float, keep_gradient: bool = False) -> None:
        self.carried.append((lr, decay))


@pytest.mark.parametrize("kind", [HD, RTHO, MARTHE])
def test_the_rate_stops_at_zero_and_can_rise_again(kind: Any) -> None:
    schedule, probe = kind(start=0.1, beta=0.01), Says([5.0, 100.0, -3.0])
    rates = [schedule.lr(Observation(step, 9, 1.0, 10, probe)) for step in range(4)]
    assert rates == pytest.approx([0.1, 0.05, 0.0, 0.03])


@pytest.mark.parametrize("kind", [HD, RTHO, MARTHE])
def test_a_slope_that_is_no_number_is_no_rate(kind: Any) -> None:
    schedule, probe = kind(start=0.1, beta=0.01), Says([math.nan])
    rates = [schedule.lr(Observation(step, 9, 1.0, 10, probe)) for step in range(2)]
    assert math.isnan(rates[1]), "the run has diverged and must end, not go on at another rate"


def test_mu_rises_while_the_gradients_agree_and_falls_to_zero_when_they_do_not() -> None:
    agreements = [2.0] * 6 + [-2.0] + [2.0] * 3
    schedule, probe = MARTHE(start=0.5, beta=1e-9), Says([0.0] * 10, agreements)
    for step in range(11):
        schedule.lr(Observation(step, 11, 1.0, 10, probe))
    mu = [decay for _, decay in probe.carried]
    assert mu[0] == 0  # nothing was carried before the first update
    assert mu[1] == 0.25  # 0.5 / 2
    assert all(a < b < 1 for a, b in pairwise(mu[1:7]))
    assert mu[7] == 0
    assert mu[8] == 0.25
    assert mu[8] < mu[9] < mu[10]


def test_marthe_is_the_formula_written_out() -> None:
    draws = np.random.default_rng(5)
    slopes, agreements = draws.normal(size=40).tolist(), (draws.normal(size=40) + 0.5).tolist()
    schedule, probe = MARTHE(start=0.3, beta=0.01), Says(slopes, agreements)
    rate, mu, count = 0.3, 0.0, 0.0
    for step in range(41):
        if step:
            rate = max(0.0, rate - 0.01 * slopes[step - 1])
            count = count * np.sign(mu) + mu
            mu = float(np.clip(rate / agreements[step - 1], 0, 1) ** (1 / (count + 1)))
        assert schedule.lr(Observation(step, 41, 1.0, 10, probe)) == pytest.approx(rate)
        assert probe.carried[-1] == pytest.approx((rate, mu))
    assert len({round(m, 6) for _, m in probe.carried}) > 10


def test_the_direction_of_no_agreement_at_all_starts_anew() -> None:
    schedule, probe = MARTHE(start=0.5), Says([0.0, 0.0], [2.0, 0.0])
    for step in range(3):
        schedule.lr(Observation(step, 3, 1.0, 10, probe))
    assert [decay for _, decay in probe.carried] == [0, 0.25, 0]
