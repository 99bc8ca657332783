"""Tuners against their papers' formulas written out, the cost they state, and how they are named, saved and resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train import folder, same, stop_after
from torch.optim import SGD, Adam, Optimizer
from unrolled import Run, peek_meta_batch, smooth_learner

from mlrs_cli.direction import direction, mean_gradient
from mlrs_cli.errors import InterruptedRunError, NotFoundError, UsageError
from mlrs_cli.learner import Learner
from mlrs_cli.questions import inner
from mlrs_cli.schedules import Observation, Schedule
from mlrs_cli.schedules.hd import HD
from mlrs_cli.schedules.l4 import L4
from mlrs_cli.schedules.lrtuner import LENGTHS, LRTuner, minimiser
from mlrs_cli.schedules.marthe import MARTHE
from mlrs_cli.schedules.named import TUNERS, parse_named
from mlrs_cli.schedules.rtho import RTHO
from mlrs_cli.train import train
from mlrs_cli.transfer import find_schedule


def taken(learner: Learner, schedule: Schedule, updates: int, look: Callable[[], None] = lambda: None) -> list[float]:
    """Rates of so many updates; `look` is called before each question."""
    rates = []
    for _ in range(updates):
        loss = learner.forward_backward()
        look()
        rates.append(schedule.lr(Observation(learner.step, updates, loss, learner.num_classes, learner)))
        learner.update(rates[-1])
    return rates


def flat(tensors: Sequence[torch.Tensor | None]) -> np.ndarray:
    return np.concatenate([t.detach().flatten().numpy() for t in tensors if t is not None])


# HD


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


# RTHO and MARTHE


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
            rate -= beta * run.slope(peek_meta_batch(learner, learner.batch_size))
        assert schedule.lr(Observation(step, 6, loss, 10, learner)) == pytest.approx(rate, rel=1e-8)
        learner.update(rate)
        run.update(learner.current, rate)
    assert abs(rate / start - 1) > 1e-3


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


# L4


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


# LRTuner


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
    falling, rising, level = (lambda r: -r), (lambda r: r), (lambda r: 1.0 - 1e-3 * math.sin(40 * r))
    assert tuned(Slice(falling), [2.0] * 3, explore=0.0) == pytest.approx([0.2, 0.4, 0.8])
    assert tuned(Slice(rising), [2.0] * 3, explore=0.0) == pytest.approx([0.05, 0.025, 0.0125])
    assert tuned(Slice(lambda r: math.inf if r else 1.0), [2.0] * 2, explore=0.0) == pytest.approx([0.05, 0.025])
    uneven = tuned(Slice(level), [2.0] * 3, explore=0.0)
    assert uneven == [0.1] * 3


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


# All of them


@pytest.mark.parametrize(
    ("text", "changes", "forward", "backward"),
    [
        ("hd", {}, 0, 0),
        ("l4", {}, 0, 0),
        ("rtho", {}, 2 * 9, 3 * 9),  # nothing at the first update
        ("marthe:lr=1e-9", {}, 2 * 9, 3 * 9),  # see the test of zero below
        ("lrtuner", {}, 4 * 2, 0),
        ("lrtuner:every=4,batches=3", {}, 3 * 4 * 3, 0),
        ("mlr-snet:meta_updates=5", {}, 5, 5),
        ("mlr-scalar:meta_updates=3", {}, 3, 3),  # updates 1, 5 and 9
    ],
)
def test_passes_are_those_the_documentation_states(
    settings: Any, text: str, changes: Any, forward: int, backward: int
) -> None:
    chosen = settings(schedule=text)
    schedule = find_schedule(chosen)[0].schedule
    learner = smooth_learner(settings, **changes)
    zeros = 0

    def look() -> None:
        nonlocal zeros
        zeros += isinstance(schedule, MARTHE) and learner.step > 1 and schedule.mu == 0

    taken(learner, schedule, 10, look)
    if isinstance(schedule, MARTHE):
        zeros += schedule.mu == 0
    assert (learner.extra_forward, learner.extra_backward) == (forward - zeros, backward - 2 * zeros)


@pytest.mark.parametrize(
    ("name", "sgd", "adam"),
    [
        ("hd", {"start": 1e-3, "beta": 1e-3}, {"start": 1e-3, "beta": 1e-7}),
        ("rtho", {"start": 1e-2, "beta": 1e-8}, {"start": 1e-3, "beta": 1e-12}),
        ("marthe", {"start": 1e-2, "beta": 1e-8}, {"start": 1e-3, "beta": 1e-12}),
        ("l4", {"fraction": 0.15, "factor": 0.9, "first": 0.75}, {"fraction": 0.15, "factor": 0.9, "first": 0.75}),
        ("lrtuner", {"start": 0.1, "every": 40}, {"start": 1e-3, "every": 40}),
        ("cosine", {"peak": 0.1}, {"peak": 1e-3}),
    ],
)
def test_defaults_go_with_the_optimizer_and_what_is_said_wins(name: str, sgd: Any, adam: Any) -> None:
    for optimizer, expected in (("sgd", sgd), ("adam", adam), ("adamw", adam)):
        schedule = parse_named(name, optimizer)
        assert {key: getattr(schedule, key) for key in expected} == expected
    if "start" in sgd:
        assert getattr(parse_named(f"{name}:lr=0.7", "adam"), "start") == 0.7  # noqa: B009 (of some schedules)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("rthoo", NotFoundError, "did you mean 'rtho'"),
        ("hd:bet=1", UsageError, "did you mean 'beta'"),
        ("hd:start=1", UsageError, "no setting 'start'"),
        ("hd:rate=1", UsageError, "no setting 'rate'"),  # what it remembers is no setting
        ("hd:beta=fast", UsageError, "takes a number, got 'fast'"),
        ("hd:beta", UsageError, "takes a number, got ''"),
        ("hd:beta=1/2", UsageError, "takes one number, got '1/2'"),
        ("lrtuner:every=2.5", UsageError, "takes a whole number, got '2.5'"),
        ("lrtuner:every=inf", UsageError, "takes a whole number, got 'inf'"),
        ("hd:beta=1,beta=2", UsageError, "'beta' twice"),
        ("hd:lr=0", UsageError, "lr must be a finite number above 0, got 0.0"),
        ("marthe:beta=-1", UsageError, "beta must be a finite number above 0, got -1.0"),
        ("l4:forget=nan", UsageError, "forget must be a finite number above 0, got nan"),
        ("lrtuner:batches=0", UsageError, "batches must be a finite number above 0, got 0"),
        ("lrtuner:growth=1", UsageError, "growth above 1"),
    ],
)
def test_what_is_written_wrong_is_said(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_named(text)


@pytest.mark.parametrize("name", TUNERS)
def test_a_tuner_without_a_model_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="must look at the model"):
        parse_named(name).lr(Observation(0, 10, 2.3, 10))


RESUMED = {
    "hd": "hd:lr=0.05,beta=0.01",
    "rtho": "rtho:lr=0.05,beta=0.01",
    "marthe": "marthe:lr=0.05,beta=0.01",
    "l4": "l4",
    "lrtuner": "lrtuner:every=3,batches=1",
    "mlr-snet": "mlr-snet:meta_updates=4",
    "mlr-scalar": "mlr-scalar:meta_updates=4",
}


@pytest.mark.parametrize("name", RESUMED)
def test_five_and_five_updates_are_ten(learner: Any, tmp_path: Path, name: str) -> None:
    how = {"batch_size": 16, "limit_batches": 4, "validation_size": 64, "momentum": 0.9, "schedule": RESUMED[name]}
    how |= {"model": "resnet8-slim", "evaluate_every": 10} if name == "rtho" else {}  # BatchNorm under a Hessian

    def run(path: Path, watch: Any = lambda facts: None) -> None:
        made = learner(**how)
        train(made, find_schedule(made.settings)[0].schedule, folder(path), watch=watch)

    run(tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match="stopped after update 5 of 10"):
        run(tmp_path / "parts", stop_after(5))
    run(tmp_path / "parts")
    states = [torch.load(tmp_path / p / "last.pt", weights_only=True) for p in ("whole", "parts")]
    same(*states)
    assert states[0]["schedule"], "a tuner has a state"
    texts = [(tmp_path / p / "lr.csv").read_text() for p in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert len({line.split(",")[2] for line in texts[0].splitlines()[1:]}) > 1, "the rate has moved"
    summaries = [json.loads((tmp_path / p / "summary.json").read_text()) for p in ("whole", "parts")]
    for key in ("extra_forward", "extra_backward", "test_loss"):
        assert summaries[0][key] == summaries[1][key]


@pytest.mark.parametrize("name", TUNERS)
def test_the_state_is_what_the_constructor_does_not_set(tmp_path: Path, name: str) -> None:
    schedule, other = parse_named(name), parse_named(name)
    before = schedule.state_dict()
    moved = {key: 3 if isinstance(value, int) else 0.25 for key, value in before.items()}
    schedule.load_state_dict(moved)
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.state_dict() == moved
    assert other == schedule != parse_named(name)
    torch.save(before, tmp_path / "fresh.pt")
    assert torch.load(tmp_path / "fresh.pt", weights_only=True) == before
