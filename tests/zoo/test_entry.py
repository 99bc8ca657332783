"""Entries: written whole and the same each time, refused when anything is off."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.mlr_snet import SHAPES
from mlrs_cli.zoo.entry import FILES, curve_rows, read_entry, write_entry

METHOD = {
    "name": "mlr-snet",
    "cell": "transfer",
    "gamma": {"rule": "mlr-snet", "measured": "once"},
    "stages": [{"start": 0.0, "kept_after": 0.1}, {"start": 0.5, "kept_after": 1.0}],
}
CONFIG = {"name": "small", "version": "1.2.3", "description": "For tests.", "license": "MIT", "method": METHOD}
CURVE = {"step": [1.0, 2.0], "loss": [2.3, 2.1], "lr": [0.3, 0.2]}


def weights(seed: int) -> dict[str, Any]:
    draws = np.random.default_rng(seed)
    return {name: draws.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def write(path: Path, **changes: Any) -> Any:
    return write_entry(path, CONFIG | changes, [weights(1), weights(2)], {0: CURVE})


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    write(tmp_path / "entry")
    return tmp_path / "entry"


def test_identical_content_gives_identical_bytes(entry: Path, tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / str(i))
        for name in FILES:
            assert (tmp_path / str(i) / name).read_bytes() == (entry / name).read_bytes()
    assert not list(entry.glob(".*"))


def test_what_is_written_is_read(entry: Path) -> None:
    found = read_entry(entry)
    assert (found.config.name, found.config.version) == ("small", "1.2.3")
    assert found.curves() == {0: CURVE}
    schedule: Any = found.schedule()
    for stage, seed in zip(schedule.stages, (1, 2), strict=True):
        assert all(np.array_equal(stage.weights[k], v) for k, v in weights(seed).items())
    assert schedule.lr(Observation(0, 2, 2.3, 10)) > 0


def rehash(entry: Path, name: str) -> None:
    """Make the config list the file as it is now, as an attacker would."""
    config = json.loads((entry / "config.json").read_text())
    data = (entry / name).read_bytes()
    config["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (entry / "config.json").write_text(json.dumps(config))


def resave(entry: Path, change: Any) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(entry / "schedule.safetensors")
    change(tensors)
    save_file(tensors, entry / "schedule.safetensors")
    rehash(entry, "schedule.safetensors")


def edit(entry: Path, **changes: Any) -> None:
    config = json.loads((entry / "config.json").read_text())
    (entry / "config.json").write_text(json.dumps(config | changes))


def link(entry: Path) -> None:
    shutil.move(entry / "schedule.safetensors", entry.parent / "elsewhere")
    (entry / "schedule.safetensors").symlink_to(entry.parent / "elsewhere")


def poison(tensors: dict[str, Any]) -> None:
    tensors["stage-1/head.weight"][0, 3] = np.nan


BREAKAGES = {
    "a byte changed": (lambda e: flip(e / "schedule.safetensors"), "SHA-256"),
    "truncated": (lambda e: (e / "schedule.safetensors").write_bytes(b"x"), "1 bytes"),
    "truncated and listed so": (lambda e: cut(e), "cannot be read"),
    "oversized": (lambda e: (e / "schedule.safetensors").write_bytes(bytes(17 * 2**20)), "more than the"),
    "missing file": (lambda e: (e / "curves.csv").unlink(), "curves.csv is missing"),
    "missing tensor": (lambda e: resave(e, lambda t: t.pop("stage-0/head.bias")), "stage-0/head.bias"),
    "extra tensor": (lambda e: resave(e, lambda t: t.update(extra=np.zeros(1, np.float32))), "extra is"),
    "wrong shape": (
        lambda e: resave(e, lambda t: t.update({"stage-0/head.bias": np.zeros(2, np.float32)})),
        "should be float32",
    ),
    "wrong type": (lambda e: resave(e, lambda t: t.update({"stage-0/head.bias": np.zeros(1)})), "should be float32"),
    "NaN": (lambda e: resave(e, poison), "not finite"),
    "link": (link, "is a link"),
    "unknown field": (lambda e: edit(e, surprise=1), "surprise"),
    "newer format": (lambda e: edit(e, format_version=2), "pip install -U mlrs-cli"),
    "odd format": (lambda e: edit(e, format_version="1"), "format_version"),
    "no JSON": (lambda e: (e / "config.json").write_text("{"), "not JSON"),
    "deep JSON": (lambda e: (e / "config.json").write_text("[" * 100_000), "not JSON"),
    "a list": (lambda e: (e / "config.json").write_text("[]"), "not a valid entry config"),
    "name that leaves the folder": (lambda e: edit(e, name="../../etc"), "name"),
    "unlisted weights": (lambda e: edit(e, files={}), "does not list"),
    "control characters": (lambda e: edit(e, description="\x1b[31mred"), "control characters"),
    "curves of no seed": (lambda e: recurve(e, "seed,step,loss,lr\nnan,1,2,3\n"), "not a table"),
    "curves with an infinity": (lambda e: recurve(e, "seed,step,loss,lr\n0,1,inf,3\n"), "not a table"),
    "odd curves": (lambda e: recurve(e, "a,b\n1,x\n"), "not a table"),
}


def recurve(entry: Path, text: str) -> None:
    (entry / "curves.csv").write_text(text)
    rehash(entry, "curves.csv")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def cut(entry: Path) -> None:
    path = entry / "schedule.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    rehash(entry, path.name)


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_off_is_refused_in_one_sentence(entry: Path, name: str) -> None:
    spoil, words = BREAKAGES[name]
    spoil(entry)
    with pytest.raises(MLRSError, match=words) as caught:
        read_entry(entry)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no entry in"):
        read_entry(tmp_path)


@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001, 4584])
def test_curves_are_thinned_evenly_and_keep_the_first_update(count: int) -> None:
    log = {"step": [float(i + 1) for i in range(count)], "loss": [float(i) for i in range(count)], "lr": [0.5] * count}
    rows = curve_rows(log)
    assert 1 <= len(rows["step"]) <= 1000
    assert (rows["step"][0], rows["loss"][0]) == (1.0, 0.0)
    if count > 1:
        every = int(rows["step"][2] - rows["step"][1])
        assert rows["step"][1:] == [float(every * (i + 1)) for i in range(every == 1, count // every)]
        assert rows["loss"][2] == sum(range(int(rows["step"][1]), int(rows["step"][2]))) / every
    assert curve_rows({"step": [], "loss": [], "lr": []}) == {"step": [], "loss": [], "lr": []}
