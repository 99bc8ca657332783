"""What is gathered for a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.export.replay import replay
from mlrs_cli.report.series import gather
from mlrs_cli.run import RunFolder
from mlrs_cli.zoo.reference import resolve


def make_run(path: Path, losses: list[float], seed: int = 0, schedule: str = "cosine", accuracies: Any = ()) -> str:
    run = RunFolder(path)
    settings = {"schedule": schedule, "model": "mlp", "dataset": "digits", "seed": seed}
    run.create({"command": "transfer", "settings": settings}, {})
    for step, loss in enumerate(losses, start=1):
        run.log_update(step, loss, 0.1 * (seed + 1))
    run.flush()
    for number, accuracy in enumerate(accuracies, start=1):
        run.log_epoch(
            {"step": 2 * number, "epoch": number, "train_loss": 1.0, "test_accuracy": accuracy, "lr": 0.1, "seconds": 1}
        )
    return str(path)


def test_seeds_become_a_mean_and_a_band(tmp_path: Path) -> None:
    names = [make_run(tmp_path / str(s), [2.0 + s, 1.0], s, accuracies=(0.5 + 0.1 * s,)) for s in range(3)]
    (line,) = gather(names)
    assert line.label == "cosine · mlp on digits (3 seeds)"
    assert line.panels["loss"].mean == (3.0, 1.0)
    assert line.panels["loss"].deviation == (1.0, 0.0)
    assert line.panels["test"].steps == (2.0,)
    assert line.panels["test"].mean[0] == pytest.approx(60)
    assert line.panels["test"].deviation[0] == pytest.approx(10)


def test_different_runs_are_different_lines(tmp_path: Path) -> None:
    names = [make_run(tmp_path / s, [2.0], schedule=s) for s in ("cosine", "linear")]
    assert [line.label for line in gather(names)] == ["cosine", "linear"]


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan], [2.0, math.nan, 1.0], [math.inf, 1.0]])
def test_odd_and_unfinished_runs(tmp_path: Path, losses: list[float]) -> None:
    name = make_run(tmp_path / "run", losses)
    with (tmp_path / "run" / "lr.csv").open("a") as file:
        file.write("9,1.")  # being written
    (line,) = gather([name])
    finite = [v for v in losses if math.isfinite(v)]
    assert len(line.panels["loss"].mean if "loss" in line.panels else ()) == len(finite)


def test_long_runs_are_thinned(tmp_path: Path) -> None:
    (line,) = gather([make_run(tmp_path / "run", [1.0] * 5000)])
    assert 400 <= len(line.panels["loss"].steps) <= 500


def test_a_schedule_is_previewed_over_its_own_curve_and_budget() -> None:
    entry = resolve("cifar10-resnet18").entry
    assert entry is not None
    assert entry.config.learned_on is not None
    lines = gather(["cifar10-resnet18", "cosine:lr=0.3"])
    assert lines[0].panels["lr"].steps[-1] == pytest.approx(entry.config.learned_on.updates, rel=0.01)
    assert [line.label.partition("@")[0] for line in lines] == ["cifar10-resnet18", "cifar10-resnet18", "cosine:lr=0.3"]
    assert lines[1].panels["lr"].steps[-1] == pytest.approx(entry.config.learned_on.updates, rel=0.01)
    assert lines[1].panels["lr"].mean[-1] == pytest.approx(entry.curves()[0]["lr"][-1], rel=0.05)
    assert "loss" in lines[1].panels
    assert len(lines[0].stages) == len(entry.config.method.stages) - 1
    (line,) = gather(["cosine:lr=0.3"], budget=50)
    assert list(line.panels["lr"].mean) == replay(resolve("cosine:lr=0.3").schedule, [1.0] * 50, 10)
    assert "loss" not in line.panels


def test_what_is_not_there() -> None:
    with pytest.raises(NotFoundError, match="no schedule"):
        gather(["nothing"])
    with pytest.raises(UsageError, match="nothing to draw"):
        gather([])
