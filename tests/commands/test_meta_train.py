"""`mlrs meta-train` as a user meets it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.run import read_run
from mlrs_cli.zoo.entry import FILES, read_entry

WORDS = "meta-train --model resnet8 --dataset digits --steps 12 --batch-size 32 --meta-every 3 --meta-size 100"


def test_it_ends_with_an_entry_that_transfer_takes(mlrs: Any) -> None:
    result = mlrs(f"{WORDS} --name my-own --out learned --json")
    assert result.code == 0, result.err
    document = result.json
    assert document["meta_updates"] == 4
    assert document["entry"] == "learned/my-own"
    assert {p.name for p in Path("learned/my-own").iterdir()} == set(FILES)
    entry = read_entry(Path("learned/my-own"))
    on, how = entry.config.learned_on, entry.config.meta_learner
    assert on is not None
    assert how is not None
    assert (on.updates, on.train_examples, on.meta_examples) == (12, 1342, 100)
    assert (how.every, how.updates) == (3, 4)
    assert [s.kept_after for s in entry.config.method.stages] == [0.005, 0.5, 1.0]
    assert entry.curves()[0]["lr"] == pytest.approx(read_run(Path("learned"))["updates"]["lr"], rel=1e-6)
    used = mlrs("transfer --schedule ./learned/my-own --steps 3 --batch-size 32 --json")
    assert used.code == 0, used.err
    assert used.json["model"] == "resnet8"


def test_the_command_of_the_card_learns_the_same_schedule(mlrs: Any) -> None:
    mlrs(f"{WORDS} --name my-own --out one --snapshots 0.5,1 --cell meta-train -q")
    command = read_entry(Path("one/my-own")).config.command
    assert command is not None
    assert command.startswith("mlrs meta-train ")
    mlrs(" ".join(shlex.split(command)[1:]) + " --out two -q")
    files = [Path(p, "my-own/schedule.safetensors").read_bytes() for p in ("one", "two")]
    assert files[0] == files[1]


def test_a_resumed_run_still_writes_its_entry(mlrs: Any) -> None:
    mlrs(f"{WORDS} --name my-own --out run -q")
    before = Path("run/my-own/schedule.safetensors").read_bytes()
    Path("run/my-own/schedule.safetensors").unlink()
    assert mlrs("meta-train --resume run -q").code == 0
    assert Path("run/my-own/schedule.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model mlp --dataset digits", "--name is missing"),
        ("--model mlp --dataset digits --name Bad/Name", "--name"),
        ("--model mlp --dataset digits --name x --meta-size 0", "--meta-size"),
        ("--model mlp --dataset digits --name x --snapshots 0.5,0.1", "snapshots must rise"),
        ("--model mlp --dataset digits --name x --snapshots half", "--snapshots"),
        ("--model mlp --dataset digits --name x --meta-every 0", "--meta-every"),
        (f"--model mlp --dataset digits --name {'x' * 70}", "--name"),
    ],
)
def test_usage_errors(mlrs: Any, words: str, message: str) -> None:
    result = mlrs(f"meta-train {words}")
    assert result.code == 2
    assert message in result.err
    assert not Path("runs").exists()


def test_dry_run(mlrs: Any) -> None:
    facts = json.loads(mlrs(f"{WORDS} --name my-own --dry-run --json").out)
    assert facts["learning"] == "4 meta-updates, one every 3 updates"
    assert not Path("runs").exists()


def test_two_processes_learn_one_schedule_and_resume_after_a_stop() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29653"]
    words = "--model resnet8 --dataset digits --steps 120 --batch-size 16 --meta-every 10 --meta-size 100 --name both"
    command = [*torchrun, "-m", "mlrs_cli", "meta-train", *words.split(), "--device", "cpu", "-q"]
    whole = subprocess.run([*command, "--out", "whole"], capture_output=True, text=True, timeout=200)
    assert whole.returncode == 0, whole.stderr
    stopped = subprocess.Popen(
        [*command, "--out", "parts"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if Path("parts/last.pt").exists():
            break
        time.sleep(0.05)
    stopped.terminate()  # torchrun passes it on to its processes
    _, error = stopped.communicate(timeout=100)
    assert "stopped after update" in error
    assert json.loads(Path("parts/summary.json").read_text())["updates"] < 120
    resumed = subprocess.run([*command, "--resume", "parts"], capture_output=True, text=True, timeout=200)
    assert resumed.returncode == 0, resumed.stderr
    assert Path("whole/lr.csv").read_text() == Path("parts/lr.csv").read_text()
    files = [Path(p, "both/schedule.safetensors").read_bytes() for p in ("whole", "parts")]
    assert files[0] == files[1]
