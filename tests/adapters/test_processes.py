"""Two gloo processes, started by torchrun: every one sets the same rates, those of the mean loss."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mlrs_cli.export.replay import replay
from mlrs_cli.zoo.reference import resolve

SCRIPTS = {
    "torch": "processes.py",
    "timm": "processes.py",
    "lightning": "trainer_processes.py",
    "transformers": "trainer_processes.py",
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_both_processes_set_the_rates_of_the_mean_loss(kind: str) -> None:
    if kind in ("lightning", "transformers"):
        pytest.importorskip(kind, reason="an optional package")
    script = str(Path(__file__).parent / SCRIPTS[kind])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29652"]
    done = subprocess.run([*torchrun, script, kind], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (one, first), (other, second) = (json.loads(Path(f"rates-{i}.json").read_text()) for i in range(2))
    assert one == other
    assert len(one) == 8
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    heard = [math.log(3), *means[:-1]] if kind == "timm" else means
    assert one == pytest.approx(replay(resolve("cifar10-resnet18").schedule, heard, 3), rel=1e-4)
    assert first != second
