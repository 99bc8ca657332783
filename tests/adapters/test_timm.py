"""timm's own way of calling a scheduler."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from timm.optim import create_optimizer_v2

from mlrs_cli.adapters.timm import TimmScheduler
from mlrs_cli.errors import UsageError
from mlrs_cli.export.replay import replay
from mlrs_cli.zoo.reference import resolve

LOSSES = [2.2 / (1 + 0.2 * i) for i in range(12)]
ZOO = "cifar10-resnet18"


def make(reference: str = ZOO) -> TimmScheduler:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 10))
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, weight_decay=1e-4)
    return TimmScheduler.from_zoo(reference, optimizer, total_steps=12)


def drive(scheduler: TimmScheduler, first: int, last: int) -> list[float]:
    """The loop of timm's training script: the rate in force at each update."""
    rates = []
    for num_updates in range(first, last):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.step_update(num_updates=num_updates + 1, metric=LOSSES[num_updates])
    return rates


def test_each_rate_follows_the_loss_before() -> None:
    expected = replay(resolve(ZOO).schedule, [math.log(10), *LOSSES[:-1]], 10)
    scheduler = make()
    assert drive(scheduler, 0, 12) == pytest.approx(expected)
    scheduler.step(1, metric=0.5)
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(expected[-1])


def test_layer_decay_is_honoured() -> None:
    scheduler = make("fixed:lr=0.5")
    scheduler.optimizer.param_groups[0]["lr_scale"] = 0.1
    scheduler.step_update(1, metric=2.0)
    assert [g["lr"] for g in scheduler.optimizer.param_groups] == pytest.approx([0.05, 0.5])


def test_five_and_seven_updates_are_twelve(tmp_path: Path) -> None:
    expected = drive(make(), 0, 12)
    first, second = make(), make()
    got = drive(first, 0, 5)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert got + drive(second, 5, 12) == expected


def test_a_tensor_rate_stays_a_tensor() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=torch.tensor(0.1))
    rate = optimizer.param_groups[0]["lr"]
    TimmScheduler.from_zoo("fixed:lr=0.5", optimizer, total_steps=3)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.5


def test_the_call_that_timm_makes_when_it_resumes_changes_nothing() -> None:
    scheduler = make()
    drive(scheduler, 0, 5)
    before = scheduler.state_dict()
    scheduler.step_update(5)
    assert scheduler.state_dict() == before


def test_misuse_is_said() -> None:
    with pytest.raises(UsageError, match="metric=loss"):
        make().step_update(1)
    with pytest.raises(UsageError, match="expected num_updates=1, got 3"):
        make().step_update(3, metric=2.0)
