"""Hand-made schedules against their twins in torch, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torch_lr

from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.schedules import HANDMADE, Observation, parse_named

BUDGET = 60
TWINS: dict[str, Callable[[Any], Any]] = {
    "fixed:lr=0.3": lambda o: torch_lr.ConstantLR(o, factor=1.0),
    "exponential:lr=0.3,final=0.01": lambda o: torch_lr.ExponentialLR(o, gamma=0.01 ** (1 / BUDGET)),
    "multistep:lr=0.3,milestones=0.5/0.75,factor=0.2": lambda o: torch_lr.MultiStepLR(o, [30, 45], gamma=0.2),
    "cosine:lr=0.3": lambda o: torch_lr.CosineAnnealingLR(o, T_max=BUDGET),
    "cosine:lr=0.3,final=0.1": lambda o: torch_lr.CosineAnnealingLR(o, T_max=BUDGET, eta_min=0.03),
    "sgdr:lr=0.3,first=0.1,mult=2": lambda o: torch_lr.CosineAnnealingWarmRestarts(o, T_0=6, T_mult=2),
    "sgdr:lr=0.3,first=0.25,mult=1": lambda o: torch_lr.CosineAnnealingWarmRestarts(o, T_0=15),
    "onecycle:lr=0.3": lambda o: torch_lr.OneCycleLR(o, max_lr=0.3, total_steps=BUDGET, cycle_momentum=False),
    "linear:lr=0.3": lambda o: torch_lr.LinearLR(o, 1.0, 0.0, total_iters=BUDGET),
}


@pytest.mark.parametrize("text", TWINS)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_closed_form_is_the_torch_scheduler(text: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    twin = TWINS[text](optimizer)
    schedule = parse_named(text)
    for step in range(BUDGET):
        assert schedule.lr(Observation(step, BUDGET, 1.0, 10)) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=1e-9
        )
        optimizer.step()
        if step + 1 < BUDGET:
            twin.step()


def rates(text: str, budget: int = 10) -> list[float]:
    schedule = parse_named(text)
    return [schedule.lr(Observation(step, budget, 1.0, 10)) for step in range(budget)]


def test_warmup_linear_rises_to_its_peak_and_falls_to_zero() -> None:
    assert rates("warmup-linear:lr=1,warmup=0.2") == pytest.approx(
        [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )


def test_knee_explores_at_its_peak_then_falls_to_zero() -> None:
    assert rates("knee:lr=1,explore=0.5") == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert rates("knee:lr=1,explore=0.5,warmup=0.2")[:3] == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("name", HANDMADE)
@pytest.mark.parametrize("budget", [1, 2, 7, 1000])
def test_every_rate_is_positive_and_at_most_the_peak(name: str, budget: int) -> None:
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates(name, budget))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("cosinus", NotFoundError, "did you mean 'cosine'"),
        ("cosine:lrr=1", UsageError, "did you mean 'lr'"),
        ("cosine:lr=fast", UsageError, "'fast'"),
        ("cosine:lr=1/2", UsageError, "one number"),
        ("cosine:lr=0", UsageError, "above 0"),
        ("cosine:lr=-1", UsageError, "-1"),
        ("cosine:lr=nan", UsageError, "nan"),
        ("knee:explore=1.5", UsageError, "at most 1"),
        ("sgdr:mult=0.5", UsageError, "mult"),
    ],
)
def test_what_is_written_wrong_is_said(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_named(text)


def test_they_keep_no_state() -> None:
    schedule = parse_named("cosine")
    assert schedule.state_dict() == {}
    with pytest.raises(UsageError, match="keeps no state"):
        schedule.load_state_dict({"step": 3})
