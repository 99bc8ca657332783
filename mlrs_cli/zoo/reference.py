"""What a user may write where a schedule is asked for, and what it stands for.

NAME                            the newest version of an entry that ships with the package
NAME@VERSION                    that version
hub:ORG/REPO[@REVISION]         an entry at the root of a Hub repo; REVISION is a tag, branch or commit
hub:ORG/REPO[@REVISION]#NAME    the entry of that name in a Hub repo that is a zoo
./path                          a folder that holds an entry
NAME:key=value,…                a hand-made schedule or a tuner, as in cosine:lr=0.1 and hd:beta=0.01
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mlrs_cli.errors import NotFoundError, UsageError, nearest
from mlrs_cli.schedules.contract import Schedule
from mlrs_cli.schedules.named import LEARNED_ONLINE, NAMED, parse_named
from mlrs_cli.zoo.bundled import bundled_folder, bundled_index
from mlrs_cli.zoo.entry import Entry, read_entry

__all__ = [
    "Bundled",
    "Folder",
    "Hand",
    "Hub",
    "Reference",
    "Resolved",
    "find_entry",
    "parse",
    "resolve",
    "schedule_names",
]

HUB = re.compile(
    r"hub:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?(?:#(?P<name>[a-z0-9][a-z0-9._-]*(?:@\d+\.\d+\.\d+)?))?"
)


@dataclass(frozen=True)
class Bundled:
    """`NAME` or `NAME@VERSION`."""

    name: str
    version: str | None


@dataclass(frozen=True)
class Hub:
    """`hub:ORG/REPO[@REVISION][#NAME]`; `name` may end in @VERSION."""

    repo: str
    revision: str | None
    name: str | None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.repo}{revision}{f'#{self.name}' if self.name else ''}"


@dataclass(frozen=True)
class Folder:
    """`./path`."""

    path: Path


@dataclass(frozen=True)
class Hand:
    """`NAME:key=value,…`."""

    text: str


Reference = Bundled | Hub | Folder | Hand


def parse(text: str) -> Reference:
    """What kind of reference a text is. Looks at the disk only to tell a folder `a/b` from a Hub repo `a/b`.

    Raises:
        UsageError: it is none, or a Hub repo without `hub:` in front.
    """
    if text.startswith("hub:"):
        found = HUB.fullmatch(text)
        if not found:
            raise UsageError(
                f"'{text}' is no Hub reference: write hub:ORG/REPO, hub:ORG/REPO@v1.0.0 or hub:ORG/REPO#NAME"
            )
        return Hub(found["repo"], found["revision"], found["name"])
    if text.partition(":")[0] in (*NAMED, *LEARNED_ONLINE):
        return Hand(text)
    if text.startswith((".", "/", "~")) or ("/" in text and (Path(text) / "config.json").is_file()):
        return Folder(Path(text).expanduser())
    if "/" in text:
        raise UsageError(f"'{text}' is no folder here: write hub:{text} for a Hub repo, ./{text} for a folder")
    name, at, version = text.partition("@")
    if at and not version:
        raise UsageError(f"'{text}' ends in @ with no version: write {name} or {name}@1.0.0")
    return Bundled(name, version or None)


@dataclass(frozen=True)
class Resolved:
    """A schedule at its first update, and the entry it came from if it is a learned one."""

    label: str
    schedule: Schedule
    entry: Entry | None


def resolve(text: str, optimizer: str = "sgd") -> Resolved:
    """The schedule that a reference stands for; fetched from the Hub where it must be.

    Args:
        text: the reference.
        optimizer: decides the defaults of hand-made schedules and tuners.

    Raises:
        NotFoundError: nothing of that name; the nearest names are given.
        NetworkError: it is on the Hub, not in the cache, and the Hub does not answer.
        MLRSError: an entry that does not pass its check.
    """
    reference = parse(text)
    if isinstance(reference, Hand):
        name = text.partition(":")[0]
        if name in LEARNED_ONLINE:
            raise UsageError(f"'{name}' learns while it trains: use it in mlrs transfer or mlrs compare")
        return Resolved(text, parse_named(text, optimizer), None)
    entry = find_entry(reference)
    label = f"{entry.config.name}@{entry.config.version}"
    return Resolved(f"{reference} ({label})" if isinstance(reference, Hub) else label, entry.schedule(), entry)


def find_entry(reference: Reference) -> Entry:
    """The entry that a reference stands for, read and checked."""
    if isinstance(reference, Folder):
        return read_entry(reference.path)
    if isinstance(reference, Hub):
        from mlrs_cli.zoo.hub import pull

        return pull(reference)
    if isinstance(reference, Hand):
        raise UsageError(f"'{reference.text}' is not an entry of the zoo but a method: name a learned schedule")
    rows = [row for row in bundled_index().entries if row.name == reference.name]
    if not rows:
        raise NotFoundError(f"no schedule '{reference.name}': {nearest(reference.name, schedule_names())}")
    for row in rows:
        if reference.version in (None, row.version):
            return read_entry(bundled_folder() / row.folder)
    versions = ", ".join(row.version for row in rows)
    raise NotFoundError(f"no version '{reference.version}' of schedule '{reference.name}': there is {versions}")


def schedule_names() -> list[str]:
    """Every name that resolves without the network."""
    return sorted({row.name for row in bundled_index().entries} | set(NAMED))
