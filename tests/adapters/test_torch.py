"""`MLRScheduler` in a plain loop: a real `LRScheduler` that takes the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mlrs_cli.adapters.torch import MLRScheduler
from mlrs_cli.errors import UsageError
from mlrs_cli.export.replay import replay
from mlrs_cli.schedules.gamma import gamma
from mlrs_cli.zoo.reference import resolve

ZOO = "cifar10-resnet18"
LOSSES = [2.3 / (1 + 0.2 * i) for i in range(12)]


def optimizer(*rates: float, **more: Any) -> torch.optim.SGD:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (0.1,)]
    made = torch.optim.SGD(groups, **more)
    for group in made.param_groups:
        group["params"][0].grad = torch.ones(2)
    return made


def drive(scheduler: MLRScheduler, losses: list[float]) -> list[float]:
    rates = []
    for loss in losses:
        scheduler.step(torch.tensor(loss))
        scheduler.optimizer.step()
        rates.append(float(scheduler.get_last_lr()[0]))
    return rates


def test_it_is_an_lr_scheduler_and_gives_the_schedules_rates() -> None:
    o = optimizer()
    scheduler = MLRScheduler.from_zoo(ZOO, o, total_steps=12, num_classes=10)
    assert isinstance(scheduler, LRScheduler)
    assert o.param_groups[0]["lr"] == 0.1
    assert drive(scheduler, LOSSES) == pytest.approx(replay(resolve(ZOO).schedule, LOSSES, 10), rel=1e-6)
    assert scheduler.last_epoch == 12


def test_the_rate_is_that_of_the_very_update() -> None:
    o = optimizer()
    scheduler = MLRScheduler.from_zoo("fixed:lr=0.25", o, total_steps=3)
    scheduler.step(2.3)
    o.step()
    assert o.param_groups[0]["params"][0].tolist() == [0.75, 0.75]


def test_no_loss_is_an_error_and_never_a_frozen_rate() -> None:
    scheduler = MLRScheduler.from_zoo(ZOO, optimizer(), total_steps=3)
    with pytest.raises(UsageError, match=r"call step\(loss\)"):
        scheduler.step()
    with pytest.raises(UsageError, match="all 3 updates"):
        drive(scheduler, [2.0] * 4)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        MLRScheduler.from_zoo(ZOO, optimizer(), total_steps=0)
    with pytest.raises(UsageError, match=r"above 0, got 0\.0"):
        MLRScheduler.from_zoo(ZOO, optimizer(0.0), total_steps=1)


def test_groups_keep_their_ratio_and_tensor_rates_stay_tensors() -> None:
    o = optimizer(0.1, 0.01)
    scheduler = MLRScheduler.from_zoo("fixed:lr=0.5", o, total_steps=3)
    drive(scheduler, [2.0])
    assert [g["lr"] for g in o.param_groups] == pytest.approx([0.5, 0.05])
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    adam = torch.optim.Adam([parameter], lr=torch.tensor(0.1))
    rate = adam.param_groups[0]["lr"]
    drive(MLRScheduler.from_zoo("fixed:lr=0.5", adam, total_steps=3), [2.0])
    assert adam.param_groups[0]["lr"] is rate
    assert float(rate) == 0.5


@pytest.mark.parametrize("reference", [ZOO, "cosine:lr=0.1"])
def test_five_and_seven_updates_are_twelve(reference: str, tmp_path: Path) -> None:
    expected = drive(MLRScheduler.from_zoo(reference, optimizer(0.1, 0.01), 12), LOSSES)
    first = MLRScheduler.from_zoo(reference, optimizer(0.1, 0.01), 12)
    got = drive(first, LOSSES[:5])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = MLRScheduler.from_zoo(reference, optimizer(0.1, 0.01), 12)
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert [float(r) for r in second.get_last_lr()] == [float(r) for r in first.get_last_lr()]
    assert got + drive(second, LOSSES[5:]) == expected
    with pytest.raises(UsageError, match="total_steps is 13 and was 12"):
        MLRScheduler.from_zoo(reference, optimizer(), 13).load_state_dict(first.state_dict())


def test_the_scale_comes_from_the_first_loss_or_from_the_one_given() -> None:
    ours = MLRScheduler.from_zoo(ZOO, optimizer(), 12, 10)
    given = MLRScheduler.from_zoo(ZOO, optimizer(), 12, 10, initial_loss=2.7)
    ratio = drive(given, LOSSES[:1])[0] / drive(ours, LOSSES[:1])[0]
    assert ratio == pytest.approx(gamma(2.7, 10) / gamma(LOSSES[0], 10))


def test_a_scheduler_that_accelerate_steps_twice_is_noticed() -> None:
    scheduler = MLRScheduler.from_zoo(ZOO, optimizer(), 12)
    loss = torch.tensor(2.0)
    scheduler.step(loss)
    with pytest.raises(UsageError, match=r"Accelerator\.prepare"):
        scheduler.step(loss)


def test_an_update_that_mixed_precision_skips_has_counted() -> None:
    scheduler = MLRScheduler.from_zoo("linear:lr=1", optimizer(), 4)
    scheduler.step(torch.tensor(2.0))  # and the scaler finds an infinity: no optimizer.step()
    assert drive(scheduler, [2.0, 2.0]) == pytest.approx([0.75, 0.5])


def test_gradient_accumulation_counts_updates() -> None:
    model, o = nn.Linear(3, 2), optimizer()
    o = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = MLRScheduler.from_zoo("linear:lr=1", o, total_steps=4, num_classes=2)
    rates = []
    for _ in range(4):
        total = torch.zeros(())
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(torch.randn(4, 3)), torch.zeros(4, dtype=torch.long)) / 2
            loss.backward()
            total += loss.detach()
        scheduler.step(total)
        o.step()
        o.zero_grad()
        rates.append(scheduler.get_last_lr()[0])
    assert rates == [1.0, 0.75, 0.5, 0.25]
