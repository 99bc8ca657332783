"""What may stand where a schedule is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.schedules.named import NAMED
from mlrs_cli.zoo.bundled import bundled_folder, bundled_index
from mlrs_cli.zoo.reference import Bundled, Folder, Hand, Hub, parse, resolve, schedule_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cifar10-resnet18", Bundled("cifar10-resnet18", None)),
        ("cifar10-resnet18@0.1.0", Bundled("cifar10-resnet18", "0.1.0")),
        ("hub:org/repo", Hub("org/repo", None, None)),
        ("hub:org/repo@v1.0.0", Hub("org/repo", "v1.0.0", None)),
        ("hub:Org/my.repo@refs/pr/1#name@1.0.0", Hub("Org/my.repo", "refs/pr/1", "name@1.0.0")),
        ("hub:org/repo#name", Hub("org/repo", None, "name")),
        ("./a/b", Folder(Path("a/b"))),
        ("/a/b", Folder(Path("/a/b"))),
        ("~/b", Folder(Path.home() / "b")),
        ("cosine", Hand("cosine")),
        ("cosine:lr=0.1", Hand("cosine:lr=0.1")),
    ],
)
def test_the_grammar(text: str, expected: object) -> None:
    assert parse(text) == expected
    if isinstance(expected, Hub):
        assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("org/name", "write hub:org/name"),
        ("hub:name", "no Hub reference"),
        ("hub:a/b/c", "no Hub reference"),
        ("hub:../etc#x", "no Hub reference"),
        ("hub:org/repo#../x", "no Hub reference"),
        ("hub:org/repo@", "no Hub reference"),
    ],
)
def test_what_is_no_reference(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text)


def test_a_name_a_version_and_a_path() -> None:
    label = resolve("cifar10-resnet18").label
    assert label.startswith("cifar10-resnet18@")
    assert resolve(label).label == label
    shutil.copytree(bundled_folder() / "cifar10-resnet18", "copy")
    for path in ("./copy", str(Path("copy").resolve())):
        assert resolve(path).label == label
    Path("org").mkdir()
    shutil.move("copy", "org/copy")
    assert resolve("org/copy").label == label
    Path("cifar10-resnet18").mkdir()
    Path("cifar10-resnet18/config.json").write_text("{}")
    assert resolve("cifar10-resnet18").label == label, "a folder of the same name hides what ships"
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


def test_names_are_those_of_entries_and_methods() -> None:
    assert {row.name for row in bundled_index().entries} | set(NAMED) == set(schedule_names())
