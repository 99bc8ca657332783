"""What a user may write where a schedule is asked for, and what it stands for.

NAME            the newest version of an entry that ships with the package
NAME@VERSION    that version
./path          a folder that holds an entry (anything that starts with . or / or ~, or is a folder with a config)
NAME:key=value  a hand-made schedule, as in cosine:lr=0.1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlrs_cli.errors import NotFoundError, nearest
from mlrs_cli.schedules.contract import Schedule
from mlrs_cli.schedules.handmade import HANDMADE, parse_handmade
from mlrs_cli.zoo.bundled import bundled_entries
from mlrs_cli.zoo.entry import Entry, read_entry

__all__ = ["Resolved", "find_entry", "resolve", "schedule_names"]


@dataclass(frozen=True)
class Resolved:
    """A schedule at its first update, and the entry it came from if it is a learned one."""

    label: str
    schedule: Schedule
    entry: Entry | None


def resolve(reference: str) -> Resolved:
    """The schedule that a reference stands for.

    Raises:
        NotFoundError: nothing of that name; the nearest names are given.
        MLRSError: an entry that does not pass its check.
    """
    if reference.partition(":")[0] in HANDMADE:
        return Resolved(reference, parse_handmade(reference), None)
    entry = find_entry(reference)
    return Resolved(f"{entry.config.name}@{entry.config.version}", entry.schedule(), entry)


def find_entry(reference: str) -> Entry:
    """The entry that a reference stands for, read and checked."""
    if is_path(reference):
        return read_entry(Path(reference).expanduser())
    name, _, version = reference.partition("@")
    entries = bundled_entries()
    folders = {config.version: folder for folder, config in entries if config.name == name}
    if not folders:
        raise NotFoundError(f"no schedule '{reference}': {nearest(name, schedule_names())}")
    if version and version not in folders:
        raise NotFoundError(f"no version '{version}' of schedule '{name}': there is {', '.join(folders)}")
    return read_entry(folders[version] if version else next(iter(folders.values())))


def is_path(reference: str) -> bool:
    """Whether a reference is meant as a folder."""
    return reference.startswith((".", "/", "~")) or (Path(reference) / "config.json").is_file()


def schedule_names() -> list[str]:
    """Every name that resolves without the network."""
    return sorted({config.name for _, config in bundled_entries()} | set(HANDMADE))
