"""Entries for the tests against a Hub, and where they end up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from result import Result

from mlrs_cli.schedules.mlr_snet import SHAPES
from mlrs_cli.zoo.entry import FILES, write_entry

Run = Callable[..., Result]
DEAD = "http://127.0.0.1:9"  # the discard port: nobody listens
METHOD = {
    "name": "mlr-snet",
    "cell": "transfer",
    "gamma": {"rule": "mlr-snet", "measured": "once"},
    "stages": [{"start": 0.0}, {"start": 0.5}],
}
CURVE = {"step": [1.0, 2.0], "loss": [2.3, 2.1], "lr": [0.3, 0.2]}


def make_entry(folder: Path, name: str = "small", version: str = "1.0.0", seed: int = 0) -> Path:
    draws = np.random.default_rng(seed)
    stages = [{k: draws.normal(size=shape).astype(np.float32) for k, shape in SHAPES.items()} for _ in range(2)]
    config = {"name": name, "version": version, "description": "For tests.", "license": "MIT", "method": METHOD}
    write_entry(folder, config, stages, {0: CURVE})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def cached_entries(tmp_path: Path, cache: str = "cache") -> list[Path]:
    return list((tmp_path / cache).rglob("snapshots/*/config.json"))
