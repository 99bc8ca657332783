"""What all tuners share: the cost they state, how they are named, saved and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stepping import taken
from test_train import folder, same, stop_after
from unrolled import smooth_learner

from mlrs_cli.errors import InterruptedRunError, NotFoundError, UsageError
from mlrs_cli.schedules import Observation
from mlrs_cli.schedules.marthe import MARTHE
from mlrs_cli.schedules.named import TUNERS, parse_named
from mlrs_cli.train import train
from mlrs_cli.transfer import find_schedule


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
