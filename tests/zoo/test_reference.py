"""What may stand where a schedule is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlrs_cli.errors import NotFoundError
from mlrs_cli.schedules import HANDMADE
from mlrs_cli.zoo.bundled import bundled_entries, bundled_folder
from mlrs_cli.zoo.entry import read_entry
from mlrs_cli.zoo.reference import resolve, schedule_names

BUNDLED = [folder for folder, _ in bundled_entries()]


def test_a_name_a_version_and_a_path() -> None:
    label = resolve("cifar10-resnet18").label
    assert label.startswith("cifar10-resnet18@")
    assert resolve(label).label == label
    shutil.copytree(bundled_folder() / "cifar10-resnet18", "copy")
    for path in ("./copy", "copy", str(Path("copy").resolve())):
        assert resolve(path).label == label
    assert resolve("cosine:lr=0.2").entry is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cifar10-resnet81", "did you mean 'cifar10-resnet18'"),
        ("cifar10-resnet18@9.9.9", "no version '9.9.9'.*there is 0"),
        ("./nowhere", "no entry in nowhere"),
        ("kosine:lr=0.1", "no schedule 'kosine:lr=0.1'"),
    ],
)
def test_what_is_not_there(text: str, words: str) -> None:
    with pytest.raises(NotFoundError, match=words):
        resolve(text)


def test_names_are_learned_and_handmade() -> None:
    assert set(HANDMADE) | {"cifar10-resnet18"} <= set(schedule_names())


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda f: f.name)
def test_every_bundled_entry_is_sound_and_has_its_own_card(folder: Path) -> None:
    from mlrs_cli.zoo.card import card

    entry = read_entry(folder)
    assert (folder / "README.md").read_text() == card(entry.config)
    assert entry.config.name == folder.name
    assert entry.curves()
