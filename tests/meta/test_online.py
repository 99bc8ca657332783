"""Learning during the run, and the ablation with one number in the network's place."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from unrolled import copies, loss_at, peek_meta_batch, smooth_learner

from mlrs_cli.errors import UsageError
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.meta.online import MLRScalar, MLRSNetOnline
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.gamma import gamma


class Slope:
    """A probe that answers with slopes written down, over and over."""

    def __init__(self, *slopes: float) -> None:
        self.slopes, self.asked = slopes, []

    def meta_slope(self, lr: float) -> float:
        self.asked.append(lr)
        return self.slopes[(len(self.asked) - 1) % len(self.slopes)]


def test_the_ablation_learns_its_last_bias_alone() -> None:
    schedule = OneStep(every=1, meta_lr=0.1, learns="scalar")
    for step in range(10):
        schedule.lr(Observation(step, 10, 2.3 / (1 + step), 10, Slope(0.5)))
    assert schedule.meta_updates == 10
    for name, value in schedule.network.state_dict().items():
        assert bool(value.any()) == (name == "head.bias"), name
    kept = schedule.kept[-1]
    assert torch.equal(kept["head.bias"], schedule.network.head.bias)
    assert sum(p.numel() for g in schedule.optimizer.param_groups for p in g["params"]) == 1


def test_its_rate_is_the_same_whatever_the_loss() -> None:
    def rates(losses: list[float]) -> list[float]:
        schedule, probe = OneStep(every=2, meta_lr=0.1, learns="scalar"), Slope(0.5, -0.1)
        out = []
        for step, loss in enumerate([2.3, *losses]):
            out.append(schedule.lr(Observation(step, 7, loss, 10, probe)))
        return out

    assert rates([2.0, 1.0, 0.5, 0.1, 0.01, 0.001]) == rates([2.3, 5.0, 9.0, 2.0, 50.0, 3.0])
    network = OneStep(every=100)
    looked = [network.lr(Observation(0, 7, 2.3, 10, Slope(0.0))), network.lr(Observation(1, 7, 0.1, 10))]
    assert looked[0] != looked[1], "the network looks at the loss"


def test_the_ablation_is_adam_on_a_sigmoid_written_out() -> None:
    slopes, lr, decay = [0.5, -0.2, 0.1, 0.4, -0.9, 0.3], 0.1, 1e-4
    schedule, probe = OneStep(every=1, meta_lr=lr, meta_weight_decay=decay, learns="scalar"), Slope(*slopes)
    scale = gamma(2.3, 10)
    s, m, v = 0.0, 0.0, 0.0
    for step, slope in enumerate(slopes):
        sigma = 1 / (1 + math.exp(-s))
        g = -slope * scale * sigma * (1 - sigma) + decay * s
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        s -= lr * m / (1 - 0.9 ** (step + 1)) / (math.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
        rate = schedule.lr(Observation(step, 6, 2.3 - 0.1 * step, 10, probe))
        assert probe.asked[-1] == pytest.approx(scale * sigma, rel=1e-5)  # it looks ahead with the rate it had
        assert rate == pytest.approx(scale / (1 + math.exp(-s)), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"optimizer": "adamw"}], ids=["sgd", "momentum", "adamw"]
)
def test_its_meta_gradient_is_the_finite_difference(settings: Any, changes: dict[str, Any]) -> None:
    learner = smooth_learner(settings, **changes)
    schedule = OneStep(every=1, learns="scalar")
    schedule.network.double()
    schedule.state = (schedule.state[0].double(), schedule.state[1].double())
    for _ in range(3):
        loss = learner.forward_backward()
        schedule.gamma = 0.01 if changes.get("optimizer") else 0.5
        s = float(schedule.network.head.bias.detach())
        batch = peek_meta_batch(learner)

        def ahead(s: float, batch: Any = batch) -> float:
            """The held-out loss after this update as a function of the number that is learned."""
            with learner.displaced(schedule.gamma / (1 + math.exp(-s))):
                return float(loss_at(learner, copies(learner), [batch]))

        h = 1e-4
        expected = (ahead(s + h) - ahead(s - h)) / (2 * h)
        schedule.learn(Observation(learner.step, 10, loss, 10, learner))
        assert float(schedule.network.head.bias.grad) == pytest.approx(expected, rel=1e-6)
        learner.update(0.01)


def online(meta_updates: int = 200, scale: float = 1.0, seed: int = 0) -> MLRSNetOnline:
    schedule = MLRSNetOnline(meta_updates)
    schedule.scale, schedule.seed = scale, seed
    return schedule


def test_the_first_meta_update_of_the_ablation_is_as_long_as_the_networks() -> None:
    def logit(schedule: OneStep) -> float:
        with torch.no_grad():
            sigma, _ = schedule.network(math.log(10), schedule.state)
        return float(sigma.logit())

    shifts = []
    for seed in range(10):
        schedule = online(seed=seed).begin(200)
        before = logit(schedule)
        schedule.gamma = gamma(math.log(10), 10)
        schedule.learn(Observation(0, 200, math.log(10), 10, Slope(1.0)))
        shifts.append(logit(schedule) - before)
    mean = sum(shifts) / 10
    deviation = math.sqrt(sum((x - mean) ** 2 for x in shifts) / 9)
    assert all(x > 0 for x in shifts), "a positive slope raises the rate"
    assert abs(MLRScalar().meta_lr - mean) < deviation
    assert (mean, deviation) == (pytest.approx(0.025, abs=0.002), pytest.approx(0.006, abs=0.002))
    scalar = MLRScalar().begin(200)
    scalar.gamma = 0.7
    scalar.learn(Observation(0, 200, math.log(10), 10, Slope(1.0)))
    assert logit(scalar) == pytest.approx(0.025, rel=1e-4)


@pytest.mark.parametrize(("budget", "asked"), [(10, 10), (20, 20), (40, 20), (100, 20), (50, 17)])
def test_meta_updates_are_spread_over_the_run(budget: int, asked: int) -> None:
    schedule, probe = MLRScalar(meta_updates=20), Slope(0.1)
    for step in range(budget):
        schedule.lr(Observation(step, budget, 2.3, 10, probe))
    assert len(probe.asked) == asked


def test_learned_online_is_one_step_with_its_scale() -> None:
    fitted, plain = online(meta_updates=5, scale=0.1, seed=4), OneStep(every=4, scale=0.1, seed=4)
    unscaled = OneStep(every=4, seed=4)
    for step in range(20):
        here = [s.lr(Observation(step, 20, 2.3 - 0.1 * step, 10, Slope(0.3))) for s in (fitted, plain, unscaled)]
        assert here[0] == here[1] == pytest.approx(0.1 * here[2], rel=1e-2)


def test_its_state_is_empty_before_the_first_update_and_holds_the_interval_after() -> None:
    schedule, other = MLRScalar(meta_updates=3), MLRScalar(meta_updates=3)
    assert schedule.state_dict() == {}
    other.load_state_dict({})
    for step in range(5):
        schedule.lr(Observation(step, 9, 2.3, 10, Slope(0.3)))
    other.load_state_dict(copy.deepcopy(schedule.state_dict()))
    rest = [[s.lr(Observation(step, 9, 2.0, 10, Slope(0.3))) for step in range(5, 9)] for s in (schedule, other)]
    assert rest[0] == rest[1]


@pytest.mark.parametrize("changes", [{"meta_updates": 0}, {"meta_lr": 0.0}, {"meta_lr": -1.0}])
def test_settings_are_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        MLRSNetOnline(**changes)
