"""Every entry that ships with the package, held to its index."""

from __future__ import annotations

from mlrs_cli.zoo.bundled import bundled_folder, bundled_index
from mlrs_cli.zoo.entry import Entry, read_entry
from mlrs_cli.zoo.index import check_against_index

__all__ = ["verify_bundled"]


def verify_bundled() -> list[Entry]:
    """Read and check all of them.

    Raises:
        MLRSError: one is not what the index says.
    """
    entries = []
    for row in bundled_index().entries:
        entry = read_entry(bundled_folder() / row.folder)
        check_against_index(entry, row)
        entries.append(entry)
    return entries
