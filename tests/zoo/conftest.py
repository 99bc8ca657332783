"""A Hub on the loopback, the program in a process of its own that talks to it, and something to publish."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_entries import DEAD, Run, make_entry
from hub_server import HubServer
from result import Result

from mlrs_cli.zoo.index import write_index


@pytest.fixture(params=[True, False], ids=["lfs", "regular"])
def hub(request: pytest.FixtureRequest) -> Iterator[HubServer]:
    server = HubServer(lfs=request.param)
    yield server
    server.close()


@pytest.fixture
def plain_hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def mlrs(tmp_path: Path) -> Run:
    """Run `mlrs` against a Hub, with a cache and a token of its own."""

    def run(words: str, url: str = DEAD, token: str | None = "hf_write", cache: str = "cache", **more: str) -> Result:
        environment = {
            **os.environ,
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / cache),
            "HF_HUB_DISABLE_XET": "1",
            **({"HF_TOKEN": token} if token else {}),
            **more,
        }
        command = [sys.executable, "-m", "mlrs_cli", *words.split()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return make_entry(tmp_path / "small")


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    make_entry(folder / "one", "one", seed=1)
    make_entry(folder / "one@0.9.0", "one", "0.9.0", seed=2)
    make_entry(folder / "two", "two", seed=3)
    write_index(folder)
    return folder
