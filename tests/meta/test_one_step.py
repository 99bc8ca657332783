"""The closed-form meta-gradient against its readable twin, which differentiates through the update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from unrolled import peek_meta_batch

from mlrs_cli.errors import UsageError
from mlrs_cli.meta.network import Network
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.schedules.contract import Observation


def small_cnn() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def differentiated(learner: Any, schedule: OneStep, rate: Any, batch: Any) -> list[Tensor]:
    """The slow twin: the optimizer's step written out with a learning rate that carries a graph, then autograd."""
    settings, model, optimizer = learner.settings, learner.raw_model, learner.raw_optimizer
    moved = {}
    for name, p in model.named_parameters():
        g, state = p.grad, optimizer.state.get(p, {})
        w = p.detach()
        if settings.optimizer == "sgd":
            g = g + settings.weight_decay * w
            if settings.momentum and state:
                g = settings.momentum * state["momentum_buffer"] + g
            moved[name] = w - rate * g
        else:
            t = int(state["step"]) + 1 if state else 1
            m = (0.9 * state["exp_avg"] if state else 0) + (1 - 0.9) * g
            v = (0.999 * state["exp_avg_sq"] if state else 0) + (1 - 0.999) * g * g
            step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            moved[name] = w - rate * (settings.weight_decay * w + step)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    x, y = batch
    loss = nn.functional.cross_entropy(functional_call(model, moved | buffers, (x,)), y)
    return list(torch.autograd.grad(loss, list(schedule.network.parameters())))


@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "adamw", "weight_decay": 0.05},
    ],
    ids=["sgd", "momentum", "adamw"],
)
def test_closed_form_is_the_gradient_through_the_update(learner: Any, monkeypatch: Any, how: dict[str, Any]) -> None:
    made = small_cnn().double()
    monkeypatch.setattr("mlrs_cli.tasks.task.build_model", lambda *a: fitted(made))
    monkeypatch.setattr("mlrs_cli.tasks.images.torch.float32", torch.float64)
    monkeypatch.setattr("mlrs_cli.tasks.images.Tensor.float", Tensor.double)
    trained = learner(validation_size=64, **how)
    schedule = OneStep(every=1)
    schedule.network.double()
    schedule.state = tuple(s.double() for s in schedule.state)  # type: ignore[assignment]
    for _ in range(3):
        loss = trained.forward_backward()
        kept = {k: v.clone() for k, v in trained.raw_model.state_dict().items()}
        batch = peek_meta_batch(trained)
        sigma, _ = schedule.network(loss, schedule.state)
        schedule.gamma = 0.7
        expected = differentiated(trained, schedule, schedule.gamma * sigma, batch)
        schedule.learn(Observation(trained.step, 10, loss, 10, trained))
        got = [p.grad for p in schedule.network.parameters()]
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-12)
        assert sum(float(g.abs().sum()) for g in expected) > 1e-6
        for name, value in trained.raw_model.state_dict().items():
            assert torch.equal(value, kept[name]), f"{name} was not restored after the look-ahead"
        trained.update(0.1)


def fitted(model: nn.Module) -> Any:
    from mlrs_cli.tasks.models import FittedModel

    return FittedModel(model, 1, 8)


class Slope:
    """A probe that answers with a fixed slope and remembers what it was asked."""

    def __init__(self, slope: float) -> None:
        self.slope, self.asked = slope, []

    def meta_slope(self, lr: float) -> float:
        self.asked.append(lr)
        return self.slope


def test_a_positive_slope_raises_the_rate_and_a_negative_one_lowers_it() -> None:
    ends = {}
    for slope in (1.0, -1.0):
        schedule, probe = OneStep(every=2, seed=1), Slope(slope)
        rates = [schedule.lr(Observation(step, 20, 2.3, 10, probe)) for step in range(20)]
        assert len(probe.asked) == schedule.meta_updates == 10
        ends[slope] = rates[-1] - rates[0]
    assert ends[1.0] > 0 > ends[-1.0]


@pytest.mark.parametrize("slope", [float("nan"), float("inf")])
def test_a_look_ahead_that_diverges_teaches_nothing(slope: float) -> None:
    schedule = OneStep(every=1, seed=1)
    before = {k: v.clone() for k, v in schedule.network.state_dict().items()}
    schedule.lr(Observation(0, 5, 2.3, 10, Slope(slope)))
    assert all(torch.equal(v, before[k]) for k, v in schedule.network.state_dict().items())
    assert schedule.meta_updates == 0


def test_the_network_is_stepped_once_per_update_and_answers_with_the_new_weights() -> None:
    schedule = OneStep(every=3, seed=1)
    h = [torch.zeros(50)] * 2
    state = (h[0], h[1])
    for step in range(7):
        rate = schedule.lr(Observation(step, 7, 2.0, 10, Slope(1.0)))
        with torch.no_grad():
            sigma, state = schedule.network(2.0, state)
        assert rate == schedule.gamma * float(sigma)
        assert torch.equal(state[0], schedule.state[0])


def test_snapshots_are_kept_after_their_shares() -> None:
    schedule = OneStep(every=1, snapshots=(0.1, 0.5, 1.0))
    counts = []
    for step in range(10):
        schedule.lr(Observation(step, 10, 2.0, 10, Slope(1.0)))
        counts.append(len(schedule.kept))
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert all(torch.equal(v, schedule.kept[-1][k]) for k, v in schedule.network.state_dict().items())


def test_the_state_loads_as_plain_data_and_continues(tmp_path: Any) -> None:
    def rates(schedule: OneStep, steps: range) -> list[float]:
        return [schedule.lr(Observation(s, 10, 2.3 / (1 + s), 10, Slope(0.3 - 0.1 * s))) for s in steps]

    whole = OneStep(every=2, seed=5)
    expected = rates(whole, range(10))
    first, second = OneStep(every=2, seed=5), OneStep(every=2, seed=6)
    got = rates(first, range(5))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert got + rates(second, range(5, 10)) == expected
    assert len(second.kept) == len(whole.kept) == 3


@pytest.mark.parametrize("snapshots", [(), (0.0, 1.0), (0.5, 0.5), (0.5, 1.5), (1.0, 0.5)])
def test_snapshots_that_do_not_rise_are_refused(snapshots: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="snapshots must rise"):
        OneStep(every=1, snapshots=snapshots)


def test_the_seed_decides_the_first_network_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, third = OneStep(1, seed=1).network, OneStep(1, seed=1).network, OneStep(1, seed=2).network
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, third.head.weight)
    assert isinstance(first, Network)
