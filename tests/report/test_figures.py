"""Pictures of runs, also of odd ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrs_cli.report.figures import draw_run
from mlrs_cli.report.series import running_mean
from mlrs_cli.run import RunFolder

SETTINGS = {"schedule": "cosine", "model": "mlp", "dataset": "digits"}
EPOCH = {"step": 2, "epoch": 1.0, "train_loss": 2.0, "test_loss": 2.0, "test_accuracy": 0.5, "lr": 0.1, "seconds": 1.0}


@pytest.mark.parametrize(
    "losses", [[], [2.0], [2.0, float("nan"), 1.0], [0.0, 0.0], [float("inf"), 1.0], [2.0, 1.0, 0.5]]
)
@pytest.mark.parametrize("epochs", [[], [EPOCH], [{k: v for k, v in EPOCH.items() if not k.startswith("test")}]])
def test_any_run_can_be_drawn(tmp_path: Path, losses: list[float], epochs: list[dict[str, float]]) -> None:
    run = RunFolder(tmp_path / "run")
    run.create({"command": "transfer", "settings": SETTINGS}, {})
    for step, loss in enumerate(losses):
        run.log_update(step + 1, loss, 0.1)
    run.flush()
    for epoch in epochs:
        run.log_epoch(epoch)
    picture = draw_run(tmp_path / "run", tmp_path / "run.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_running_mean() -> None:
    assert running_mean([1.0, 2.0, 3.0, 4.0], 2) == [1.5, 2.5, 3.5]
    assert running_mean([], 1) == []
