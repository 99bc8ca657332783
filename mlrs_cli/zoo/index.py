"""`index.json`: what a folder of entries holds, with the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.files import write_json
from mlrs_cli.zoo.config import NAME, VERSION, EntryConfig, Fact, FileFacts, Strict, Text
from mlrs_cli.zoo.entry import FILES, Entry, check_facts, read_entry, read_plain

__all__ = [
    "INDEX",
    "Index",
    "IndexRow",
    "build_index",
    "check_against_index",
    "parse_index",
    "read_index",
    "write_index",
]

INDEX = "index.json"
FOLDER = r"^[a-z0-9][a-z0-9._@-]{0,79}$"


class IndexRow(Strict):
    """One entry: `folder` is its place beside the index."""

    name: str = Field(pattern=NAME)
    version: str = Field(pattern=VERSION)
    folder: str = Field(pattern=FOLDER)
    description: Text
    method: Fact
    task: Fact
    files: dict[Literal["schedule.safetensors", "config.json", "curves.csv", "README.md"], FileFacts]


class Index(Strict):
    """All entries of a zoo, by name and then newest version first."""

    format_version: Literal[1]
    entries: Annotated[tuple[IndexRow, ...], Field(max_length=10_000)]


def build_index(zoo: Path) -> Index:
    """Index of every entry in a folder, each checked.

    Raises:
        MLRSError: an entry does not pass its check, or two have the same name and version.
    """
    rows = [row_of(read_entry(file.parent)) for file in sorted(zoo.glob("*/config.json"))]
    rows.sort(key=lambda row: (row.name, *(-int(n) for n in row.version.split("."))))
    for one, other in itertools.pairwise(rows):
        if (one.name, one.version) == (other.name, other.version):
            raise MLRSError(
                f"{zoo} holds {one.name}@{one.version} twice, in {one.folder} and {other.folder}: remove one"
            )
    return Index(format_version=1, entries=tuple(rows))


def row_of(entry: Entry) -> IndexRow:
    """What the index says of an entry."""
    contents = {name: (entry.folder / name).read_bytes() for name in FILES}
    facts: dict[Any, FileFacts] = {
        name: FileFacts(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in contents.items()
    }
    config = entry.config
    return IndexRow(
        name=config.name,
        version=config.version,
        folder=entry.folder.name,
        description=config.description,
        method=config.method.name,
        task=task_of(config),
        files=facts,
    )


def task_of(config: EntryConfig) -> str:
    """Model and data set that an entry was learned on."""
    return f"{config.learned_on.model} on {config.learned_on.dataset}" if config.learned_on else "not known"


def write_index(zoo: Path) -> Index:
    """Build the index of a folder of entries and write it there."""
    index = build_index(zoo)
    write_json(zoo / INDEX, index.model_dump(mode="json"))
    return index


def parse_index(data: bytes, source: str) -> Index:
    """The index in a file's bytes."""
    try:
        return Index.model_validate(json.loads(data))
    except (ValueError, RecursionError) as error:
        first = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise MLRSError(f"{source} is not a zoo index: {first}") from None


def read_index(zoo: Path) -> Index:
    """The index that lies in a folder of entries."""
    if not (zoo / INDEX).is_file():
        raise NotFoundError(f"no zoo in {zoo}: it has no {INDEX}")
    return parse_index(read_plain(zoo / INDEX), str(zoo / INDEX))


def check_against_index(entry: Entry, row: IndexRow) -> None:
    """Hold every file of an entry to what the index says.

    Raises:
        MLRSError: a file differs.
    """
    for name in FILES:
        if name not in row.files:
            raise MLRSError(
                f"the index does not list {name} of {row.name}@{row.version}: build it again with mlrs zoo index"
            )
        check_facts((entry.folder / name).read_bytes(), row.files[name], entry.folder / name)
    if (entry.config.name, entry.config.version) != (row.name, row.version):
        raise MLRSError(
            f"{entry.folder} holds {entry.config.name}@{entry.config.version}, the index says {row.name}@{row.version}"
        )
