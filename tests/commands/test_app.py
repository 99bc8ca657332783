"""The program as a whole: help, start-up, examples, what it imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import mlrs_cli
from mlrs_cli.commands import compare, export, meta_train, transfer

TRAINING = transfer.EXAMPLES + meta_train.EXAMPLES


def test_version(mlrs: Any) -> None:
    assert mlrs("--version").out == f"mlrs {mlrs_cli.__version__}\n"


@pytest.mark.parametrize("words", ["--help", "-h", "transfer --help", "meta-train -h", "compare --help"])
def test_help(mlrs: Any, words: str) -> None:
    result = mlrs(words)
    assert result.code == 0
    assert "Usage" in result.out


def test_no_words_is_help_and_a_usage_error(mlrs: Any) -> None:
    result = mlrs("")
    assert result.code == 2
    assert "transfer" in result.out


def test_a_misspelt_command_brings_the_nearest(mlrs: Any) -> None:
    result = mlrs("tranfser")
    assert result.code == 2
    assert "transfer" in result.err


@pytest.mark.parametrize("example", TRAINING + export.EXAMPLES + compare.EXAMPLES[:1])
def test_examples_of_the_help_run(mlrs: Any, example: str) -> None:
    short = " --limit-batches 2" if example in TRAINING else ""
    result = mlrs(example.removeprefix("mlrs ") + short)
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["transfer", "--help"],
        ["compare", "--help"],
        ["transfer", "--schedule", "cifar10-resnet18", "--print-config"],
    ],
)
def test_what_trains_nothing_imports_no_torch(words: list[str]) -> None:
    script = (
        "import sys; from mlrs_cli.commands.app import app\n"
        f"try: app({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'matplotlib', 'accelerate'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_env_is_for_reports(mlrs: Any) -> None:
    assert mlrs("env --json").json["mlrs"] == mlrs_cli.__version__
    assert "torch" in mlrs("env").out


def test_completion_knows_the_schedules() -> None:
    from mlrs_cli.commands.options import complete_schedule

    assert complete_schedule("cifar10-r") == ["cifar10-resnet18"]
    assert complete_schedule("cos") == ["cosine"]


def test_an_error_nobody_foresaw_is_one_sentence_too(mlrs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ValueError("surprise")

    monkeypatch.setattr("mlrs_cli.commands.transfer.plan_run", fail)
    result = mlrs("transfer --schedule cosine")
    assert result.code == 1
    assert result.err == "error: ValueError: surprise (MLRS_DEBUG=1 shows where)\n"
    monkeypatch.setenv("MLRS_DEBUG", "1")
    with pytest.raises(ValueError, match="surprise"):
        mlrs("transfer --schedule cosine")
