"""L4 against the paper's formulas in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
from unrolled import smooth_learner

from mlrs_cli.direction import direction, mean_gradient
from mlrs_cli.questions import inner
from mlrs_cli.schedules import Observation
from mlrs_cli.schedules.l4 import L4


class Quadratic:
    """½·Σ c·w², with its gradient in place: a probe for what L4 asks."""

    def __init__(self, make: Callable[[list[torch.Tensor]], Optimizer]) -> None:
        self.c = torch.linspace(0.5, 4.0, 5, dtype=torch.float64)
        self.w = torch.linspace(-1.0, 2.0, 5, dtype=torch.float64, requires_grad=True)
        self.optimizer, self.step = make([self.w]), 0

    def forward_backward(self) -> float:
        self.optimizer.zero_grad()
        loss = (self.c * self.w**2).sum() / 2
        loss.backward()
        return float(loss.detach())

    def descent(self) -> float:
        return inner(mean_gradient(self.optimizer, self.step), direction(self.optimizer))

    def update(self, lr: float) -> None:
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.step += 1


def l4_written_out(how: str, updates: int, fraction: float, forget: float) -> list[float]:
    """L4, L4Mom and L4Adam on the same quadratic, in numpy."""
    c, w = np.linspace(0.5, 4.0, 5), np.linspace(-1.0, 2.0, 5)
    beta = {"sgd": 0.0, "momentum": 0.8, "adam": 0.9}[how]
    g_mean, squares, buffer, least, rates = 0.0 * w, 0.0 * w, 0.0 * w, 0.0, []
    for t in range(1, updates + 1):
        loss, g = (c * w**2).sum() / 2, c * w
        g_mean, squares = beta * g_mean + (1 - beta) * g, 0.999 * squares + 0.001 * g**2
        buffer = beta * buffer + g
        corrected = g_mean / (1 - beta**t)
        v = corrected / (np.sqrt(squares / (1 - 0.999**t)) + 1e-8) if how == "adam" else buffer
        least = 0.75 * loss if t == 1 else min(least, loss)
        rates.append(fraction * (loss - 0.9 * least) / (corrected @ v + 1e-12))
        least *= 1 + 1 / forget
        w = w - rates[-1] * v
    return rates


@pytest.mark.parametrize(
    ("how", "make"),
    [
        ("sgd", lambda p: SGD(p, lr=1.0)),
        ("momentum", lambda p: SGD(p, lr=1.0, momentum=0.8)),
        ("adam", lambda p: Adam(p, lr=1.0)),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_l4_is_the_papers_formula(how: str, make: Any) -> None:
    task, schedule, rates, losses = Quadratic(make), L4(fraction=0.2, forget=50), [], []
    for step in range(40):
        losses.append(task.forward_backward())
        rates.append(schedule.lr(Observation(step, 40, losses[-1], 10, task)))  # type: ignore[arg-type]
        task.update(rates[-1])
    assert rates == pytest.approx(l4_written_out(how, 40, 0.2, 50), rel=1e-8)
    assert losses[-1] < 0.5 * losses[0]


def test_l4_without_momentum_or_memory_is_polyaks_step() -> None:
    task = Quadratic(lambda p: SGD(p, lr=1.0))
    loss = task.forward_backward()
    rate = L4(fraction=1.0, first=1e-12).lr(Observation(0, 9, loss, 10, task))  # type: ignore[arg-type]
    assert rate == pytest.approx(loss / float((task.w.grad**2).sum()))


def test_the_descent_is_what_the_loss_falls_by_a_unit_of_rate(settings: Any) -> None:
    learner = smooth_learner(settings)
    learner.forward_backward()
    base, h = learner.descent(), 1e-3
    fall = (learner.loss_after(-h) - learner.loss_after(h)) / (2 * h)
    assert base == pytest.approx(fall, rel=1e-5)
