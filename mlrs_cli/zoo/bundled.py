"""The entries that ship with the package."""

from __future__ import annotations

from pathlib import Path

from mlrs_cli.zoo.index import Index, read_index

__all__ = ["bundled_folder", "bundled_index"]


def bundled_folder() -> Path:
    """Where they lie: inside an installed package, at the top of a source checkout."""
    installed = Path(__file__).parent / "bundled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "zoo"


def bundled_index() -> Index:
    """What they are. Reads one file."""
    return read_index(bundled_folder())
