"""The loop: resuming, stopping, diverging, what the run folder holds."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mlrs_cli.errors import DivergedError, InterruptedRunError, MLRSError, NotFoundError, UsageError
from mlrs_cli.learner import Learner
from mlrs_cli.meta.one_step import OneStep
from mlrs_cli.run import RunFolder, read_run
from mlrs_cli.schedules import Observation, Schedule, parse_named
from mlrs_cli.train import train


def folder(path: Path) -> RunFolder:
    run = RunFolder(path)
    if not path.exists():
        run.create({"command": "transfer", "settings": {}}, {})
    return run


def same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, times apart."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"seconds", "updating"}:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def stop_after(step: int) -> Any:
    def watch(facts: dict[str, Any]) -> None:
        if facts["step"] == step and "epoch" not in facts:
            os.kill(os.getpid(), signal.SIGINT)

    return watch


SCHEDULES = {"cosine": lambda: parse_named("cosine:lr=0.05"), "learning": lambda: OneStep(every=3)}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    "how",
    [
        {"model": "mobilenet_v3_small", "precision": "bf16", "momentum": 0.9},  # with BatchNorm and dropout
        {
            "model": "resnet8",
            "optimizer": "adamw",
            "grad_accumulation": 2,
            "grad_clip": 1.0,
            "batch_size": 16,
            "deterministic": True,
        },
    ],
    ids=["bf16 dropout momentum", "adamw accumulation clipping"],
)
def test_five_and_five_updates_are_ten(learner: Any, tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    def run(path: Path, watch: Any = lambda facts: None) -> None:
        train(learner(limit_batches=4, validation_size=64, **how), SCHEDULES[name](), folder(path), watch=watch)

    run(tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match="stopped after update 5 of 10"):
        run(tmp_path / "parts", stop_after(5))  # in the middle of an epoch of 4
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["status"] == "interrupted"
    run(tmp_path / "parts")
    states = [torch.load(tmp_path / p / "last.pt") for p in ("whole", "parts")]
    same(*states)
    if how["model"] == "mobilenet_v3_small":
        fresh = learner(limit_batches=4, validation_size=64, **how).state_dict()["random"][0]["torch"]
        assert not torch.equal(states[0]["learner"]["random"][0]["torch"], fresh), "dropout has drawn nothing"
    texts = [(tmp_path / p / "lr.csv").read_text() for p in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == 11


def test_a_run_killed_at_any_moment_continues_from_its_last_checkpoint(learner: Any, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(facts: dict[str, Any]) -> None:
        if facts["step"] == 7:
            raise KilledError

    schedule = parse_named("cosine:lr=0.05")
    train(learner(limit_batches=4), schedule, folder(tmp_path / "whole"))
    with pytest.raises(KilledError):
        train(learner(limit_batches=4), schedule, folder(tmp_path / "parts"), watch=kill)
    with (tmp_path / "parts" / "lr.csv").open("a") as file:
        file.write("8,0.1")  # a row that was being written
    train(learner(limit_batches=4), schedule, folder(tmp_path / "parts"))
    same(*(torch.load(tmp_path / p / "last.pt") for p in ("whole", "parts")))
    assert (tmp_path / "whole" / "lr.csv").read_text() == (tmp_path / "parts" / "lr.csv").read_text()
    assert len(read_run(tmp_path / "parts")["epochs"]) == 3


def test_a_loss_that_is_not_finite_stops_and_leaves_the_folder_whole(learner: Any, tmp_path: Path) -> None:
    class Explode(Schedule):
        def lr(self, observation: Observation) -> float:
            return 1e30 if observation.step == 3 else 0.01

    with pytest.raises(DivergedError, match="update 5 is") as caught:
        train(learner(limit_batches=2), Explode(), folder(tmp_path / "run"))
    assert caught.value.exit_code == 5
    run = read_run(tmp_path / "run")
    assert run["summary"]["status"] == "diverged"
    assert run["summary"]["diverged_at"] == 5
    assert run["updates"]["step"] == [1, 2, 3, 4]
    assert torch.load(tmp_path / "run" / "last.pt")["learner"]["step"] == 4


@pytest.mark.parametrize("rate", [1e30, math.nan, math.inf])
def test_a_last_update_that_breaks_the_model_is_a_divergence_too(learner: Any, tmp_path: Path, rate: float) -> None:
    class Last(Schedule):
        def lr(self, observation: Observation) -> float:
            return rate if observation.step == observation.budget - 1 else 0.01

    with pytest.raises(DivergedError, match=r"the loss after update 10, the last|the learning rate of update 10"):
        train(learner(), Last(), folder(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "diverged"
    assert "NaN" not in (tmp_path / "run" / "summary.json").read_text()


def test_the_folder_holds_what_happened(learner: Any, tmp_path: Path) -> None:
    trained = learner(model="resnet8", limit_batches=5)
    seen: list[dict[str, Any]] = []
    result = train(trained, parse_named("linear:lr=0.1"), folder(tmp_path / "run"), lr_scale=0.5, watch=seen.append)
    run = read_run(tmp_path / "run")
    assert run["summary"] == result
    assert run["updates"]["lr"] == [0.5 * 0.1 * (1 - s / 10) for s in range(10)]
    assert [e["epoch"] for e in run["epochs"]] == [1, 2]
    assert run["epochs"][1]["train_loss"] == pytest.approx(sum(run["updates"]["loss"][5:]) / 5)
    assert run["epochs"][1]["test_accuracy"] == result["test_accuracy"] == trained.evaluate("test")[1]
    assert len(seen) == 12
    assert not list((tmp_path / "run").glob(".*")), "a temporary file was left"
    best = torch.load(tmp_path / "run" / "best.pt")
    assert best.keys() == trained.raw_model.state_dict().keys()


def test_training_without_validation_is_possible(learner: Any, tmp_path: Path) -> None:
    trained = learner(validation_size=0, limit_batches=5)  # two epochs
    result = train(trained, parse_named("cosine"), folder(tmp_path / "run"))
    assert result["validation_accuracy"] is None
    assert math.isfinite(result["test_accuracy"])
    same(torch.load(tmp_path / "run" / "best.pt"), trained.raw_model.state_dict())


def test_the_test_split_decides_nothing(learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Learner.evaluate

    def lie(self: Learner, split: str) -> tuple[float, float]:
        return (9.0, 0.0) if split == "test" else original(self, split)

    train(learner(limit_batches=3), parse_named("cosine"), folder(tmp_path / "honest"))
    monkeypatch.setattr(Learner, "evaluate", lie)
    train(learner(limit_batches=3), parse_named("cosine"), folder(tmp_path / "lying"))
    for name in ("last.pt", "best.pt"):
        one, other = (torch.load(tmp_path / p / name) for p in ("honest", "lying"))
        same(one.get("learner", one), other.get("learner", other))


def test_broken_and_missing_folders_are_said(learner: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run in"):
        read_run(tmp_path / "nowhere")
    run = folder(tmp_path / "run")
    with pytest.raises(UsageError, match="is not empty"):
        run.create({}, {})
    (tmp_path / "run" / "last.pt").write_bytes(b"broken")
    with pytest.raises(MLRSError, match="cannot be read"):
        train(learner(), parse_named("cosine"), run)
