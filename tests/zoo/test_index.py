"""The index of the zoo, and the zoo that ships."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.zoo.bundled import bundled_folder, bundled_index
from mlrs_cli.zoo.card import card
from mlrs_cli.zoo.check import verify_bundled
from mlrs_cli.zoo.entry import read_entry
from mlrs_cli.zoo.index import build_index, read_index

ROOT = Path(__file__).resolve().parents[2]
ROWS = bundled_index().entries


def test_the_index_that_ships_is_not_stale() -> None:
    assert read_index(bundled_folder()) == build_index(bundled_folder()), "run: mlrs zoo index zoo"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.folder)
def test_every_entry_that_ships_is_sound_and_has_its_own_card(row: Any) -> None:
    entry = read_entry(bundled_folder() / row.folder)
    assert (entry.folder / "README.md").read_text() == card(entry.config)
    assert row.folder in (entry.config.name, f"{entry.config.name}@{entry.config.version}")
    assert entry.curves()


def test_all_of_them_are_verified() -> None:
    assert [e.config.name for e in verify_bundled()] == [row.name for row in ROWS]


def test_the_first_entry_was_learned_as_the_card_says() -> None:
    config = read_entry(bundled_folder() / "cifar10-resnet18").config
    on, how, end = config.learned_on, config.meta_learner, config.results
    assert on is not None
    assert how is not None
    assert end is not None
    assert (on.model, on.dataset, on.train_examples, on.meta_examples) == ("resnet18", "cifar10", 49_000, 1000)
    assert on.epochs >= 12
    assert how.updates >= 100
    assert (on.optimizer, on.momentum, on.weight_decay, on.batch_size, on.precision) == ("sgd", 0, 5e-4, 128, "bf16")
    assert len(config.transfers) >= 3
    assert all(
        row.rival in (bundled_folder() / "cifar10-resnet18" / "README.md").read_text() for row in config.transfers
    )
    assert end.test_accuracy is not None
    assert 0.5 < end.test_accuracy < 1


def test_an_index_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no zoo in"):
        read_index(tmp_path)
    for text in ("{", "[]", '{"format_version": 1}', '{"format_version": 1, "entries": [{"folder": "../x"}]}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(MLRSError, match="is not a zoo index"):
            read_index(tmp_path)


def test_the_wheel_carries_the_zoo_and_works_from_there(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import mlrs_cli, json; from mlrs_cli.zoo.bundled import bundled_folder; from mlrs_cli.zoo.check import verify_bundled\n"
        "print(json.dumps([mlrs_cli.__file__, str(bundled_folder()), [e.config.name for e in verify_bundled()]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    package, folder, names = json.loads(done.stdout)
    assert package.startswith(str(tmp_path))
    assert folder.startswith(str(tmp_path))
    assert names == [row.name for row in ROWS]
