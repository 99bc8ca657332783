"""What all tests share: a clean environment, a folder of their own, small tasks that train in milliseconds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from result import Result

# Only what a test sets itself may reach the program; before anything imports a Hub client.
for name in [n for n in os.environ if n.startswith(("MLRS_", "HF_"))]:
    del os.environ[name]
os.environ.update(
    NO_COLOR="1", COLUMNS="200", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", OMP_NUM_THREADS="1"
)

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "mlr-snet"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLRS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MLRS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip("the published MLR-SNet data is not beside this checkout")
    return REFERENCE


@pytest.fixture(scope="session")
def golden(reference: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((reference / "golden.json").read_text())
    return content


@pytest.fixture(scope="session")
def published(reference: Path) -> dict[str, dict[str, Any]]:
    """The authors' three networks under our names of their weights."""
    import torch

    names = {
        "layer1.fc_i2h.0": "input_0",
        "layer1.fc_i2h.2": "input_1",
        "layer1.fc_h2h.0": "hidden_0",
        "layer1.fc_h2h.2": "hidden_1",
        "layer3": "head",
    }
    out = {}
    for epoch in ("1", "100", "200"):
        raw = torch.load(reference / f"snapshot-{epoch}.pth", map_location="cpu", weights_only=True)
        out[epoch] = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in raw.items()}
    return out


@pytest.fixture
def settings() -> Any:
    """Maker of transfer settings for a small run on digits."""
    from mlrs_cli.settings import TransferSettings

    def make(**changes: Any) -> TransferSettings:
        small = {"schedule": "cosine:lr=0.1", "model": "mlp", "dataset": "digits", "steps": 10, "batch_size": 32}
        return TransferSettings.model_validate(small | changes)

    return make


@pytest.fixture
def learner(settings: Any) -> Any:
    """Maker of a learner on digits."""
    from mlrs_cli.learner import Learner
    from mlrs_cli.tasks.task import build_task

    def make(**changes: Any) -> Learner:
        chosen = settings(**changes)
        return Learner(build_task(chosen), chosen)

    return make


@pytest.fixture
def mlrs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `mlrs` in this process with the given words, split at spaces."""
    from mlrs_cli.commands.app import main

    def run(words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mlrs", *words.split()])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run
