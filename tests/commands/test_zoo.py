"""`mlrs zoo` without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mlrs_cli.zoo.bundled import bundled_folder


def test_list_show_and_verify(mlrs: Any) -> None:
    rows = mlrs("zoo list --json").json
    assert "cifar10-resnet18" in [row["name"] for row in rows]
    assert set(rows[0]) == {"name", "version", "method", "task", "description"}
    assert "cifar10-resnet18" in mlrs("zoo list").out
    shown = mlrs("zoo show cifar10-resnet18 --json").json
    assert shown["learned_on"]["model"] == "resnet18"
    assert "learned on model" in mlrs("zoo show cifar10-resnet18").out
    assert [row["sound"] for row in mlrs("zoo verify --json").json] == [True] * len(rows)
    assert mlrs(f"zoo verify {bundled_folder() / 'cifar10-resnet18'} cifar10-resnet18").code == 0
    assert mlrs("zoo pull cifar10-resnet18 --json").json[0]["version"]


@pytest.mark.parametrize("words", [["list"], ["show", "cifar10-resnet18"], ["verify"]])
def test_they_answer_at_once_and_without_torch(words: list[str]) -> None:
    script = (
        "import sys; from mlrs_cli.commands.app import app\n"
        f"try: app({['zoo', *words]!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)\n"
    )
    seconds: dict[str, list[float]] = {script: [], "import numpy, pydantic, rich.table, typer": []}
    for _ in range(3):
        for what, times in seconds.items():
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", what], capture_output=True, text=True)
            times.append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
    answer, least = map(min, seconds.values())
    assert answer < 3 * least + 0.1  # against what any command must import, so that a slow machine is no failure


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("zoo show cifar10-resnet81", 3, "did you mean 'cifar10-resnet18'"),
        ("zoo show org/name", 2, "write hub:org/name"),
        ("zoo show cosine", 2, "not an entry of the zoo but a method"),
        ("zoo verify ./nowhere", 3, "no entry in nowhere"),
        ("zoo index nowhere", 3, "no folder nowhere"),
        ("zoo import a.pth --name x", 3, "no file a.pth"),
        ("zoo import a.pth --name Bad/Name", 2, "no name of an entry"),
        ("zoo import a.pth --name x --stages half", 2, "--stages takes shares"),
        ("zoo import a.pth --name x --stages 1/0", 2, "--stages takes shares"),
        ("zoo import a.pth --name x --cell other", 2, "--cell is"),
        ("zoo import a.pth --name x --gamma other", 2, "--gamma is"),
        ("zoo import a.pth --name x --entry-version 1", 2, "no version"),
        ("zoo push nowhere --repo ab --dry-run", 2, "write ORG/REPO"),
        ("zoo push nowhere --repo a/b --dry-run", 3, "no entry in nowhere"),
    ],
)
def test_errors(mlrs: Any, words: str, code: int, message: str) -> None:
    result = mlrs(words)
    assert result.code == code, result.err
    assert message in result.err


def test_an_imported_entry_is_used_at_once(mlrs: Any) -> None:
    from mlrs_cli.meta.network import Network
    from mlrs_cli.zoo.published import LAYERS

    names = {ours: layer for layer, ours in LAYERS.items()}
    state = {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in Network().state_dict().items()}
    for name in ("1.pth", "2.pth", "3.pth"):
        torch.save(state, name)
    imported = mlrs("zoo import 1.pth 2.pth 3.pth --stages 0,1/3,2/3 --name mine --json")
    assert imported.code == 0, imported.err
    assert mlrs("zoo verify ./mine").code == 0
    trained = mlrs("transfer --schedule ./mine --model mlp --dataset digits --steps 3 --json")
    assert trained.code == 0, trained.err
    assert trained.json["schedule"] == "mine@0.1.0"
    assert mlrs("zoo import 1.pth --name mine").code == 2


def test_a_stale_index_is_noticed_and_built_anew(mlrs: Any) -> None:
    shutil.copytree(bundled_folder(), "zoo")
    assert mlrs("zoo index zoo --check").code == 0
    before = Path("zoo/index.json").read_bytes()
    assert mlrs("zoo index zoo").code == 0
    assert Path("zoo/index.json").read_bytes() == before
    shutil.rmtree("zoo/cifar10-resnet18")
    assert "stale" in mlrs("zoo index zoo --check").err
