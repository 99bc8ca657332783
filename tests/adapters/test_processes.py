"""Two gloo processes, started by torchrun and set up by Accelerate: every one sets the same rates."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mlrs_cli.export.replay import replay
from mlrs_cli.zoo.reference import resolve


@pytest.mark.parametrize("kind", ["torch", "timm"])
def test_both_processes_set_the_same_rates(kind: str) -> None:
    script = Path(__file__).parent / "processes.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29652",
        str(script),
        kind,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (one, first), (other, second) = (json.loads(Path(f"rates-{i}.json").read_text()) for i in range(2))
    assert one == other
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    heard = means if kind == "torch" else [math.log(3), *means[:-1]]
    assert one == pytest.approx(replay(resolve("cifar10-resnet18").schedule, heard, 3), rel=1e-5)
