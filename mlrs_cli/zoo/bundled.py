"""The entries that ship with the package."""

from __future__ import annotations

from pathlib import Path

from mlrs_cli.errors import MLRSError
from mlrs_cli.zoo.config import EntryConfig, parse_config

__all__ = ["bundled_entries", "bundled_folder"]


def bundled_folder() -> Path:
    """Where they lie: inside an installed package, at the top of a source checkout."""
    installed = Path(__file__).parent / "bundled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "zoo"


def bundled_entries() -> list[tuple[Path, EntryConfig]]:
    """Folder and config of each, by name and then newest version first. Weights are not read."""
    found = []
    for file in sorted(bundled_folder().glob("*/config.json")):
        try:
            found.append((file.parent, parse_config(file.read_bytes(), str(file))))
        except OSError as error:
            raise MLRSError(f"{file} cannot be read ({error}): reinstall mlrs-cli") from error
    return sorted(found, key=lambda pair: (pair[1].name, *(-n for n in version_key(pair[1].version))))


def version_key(version: str) -> tuple[int, ...]:
    """Numbers of a version, for ordering."""
    return tuple(map(int, version.split(".")))
