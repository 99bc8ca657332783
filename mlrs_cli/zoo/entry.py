"""One entry: a folder with a learned schedule, its config, its card and its curves.

    schedule.safetensors  the weights of every stage, named stage-0/input_0.weight …, float32, no metadata
    config.json           `mlrs_cli.zoo.config.EntryConfig`
    curves.csv            seed, step, loss, lr of the runs it was learned in
    README.md             the card

Needs no torch to read. Nothing in an entry is ever unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.files import replacing, write_json, write_text
from mlrs_cli.schedules.contract import Schedule
from mlrs_cli.zoo.card import card
from mlrs_cli.zoo.config import EntryConfig, FileFacts, check_config, parse_config

__all__ = ["CURVE_COLUMNS", "FILES", "LARGEST", "Entry", "curve_rows", "read_entry", "write_entry"]

FILES = ("schedule.safetensors", "config.json", "curves.csv", "README.md")
LISTED: tuple[Literal["schedule.safetensors", "curves.csv"], ...] = ("schedule.safetensors", "curves.csv")
LARGEST = 16 * 2**20  # bytes of one file; a schedule of three snapshots has 141,000
CURVE_COLUMNS = ("seed", "step", "loss", "lr")
CURVE_ROWS = 1000
Curve = dict[str, list[float]]


@dataclass(frozen=True)
class Entry:
    """An entry that was read and checked."""

    folder: Path
    config: EntryConfig
    weights: bytes

    def schedule(self) -> Schedule:
        """A fresh schedule, at its first update."""
        from mlrs_cli.schedules.mlr_snet import MLRSNet, Stage

        method = self.config.method
        arrays = stage_arrays(self.weights, len(method.stages), str(self.folder))
        stages = [Stage(stage.start, weights) for stage, weights in zip(method.stages, arrays, strict=True)]
        return MLRSNet(stages, method.cell, method.gamma.measured)

    def curves(self) -> dict[int, Curve]:
        """Per seed, the columns step, loss and lr of the run it was learned in."""
        return parse_curves((self.folder / "curves.csv").read_bytes(), self.folder / "curves.csv")


def read_entry(folder: Path, store: Path | None = None) -> Entry:
    """Read and check an entry: every file there, a plain file, of the size and SHA-256 its config says, weights sound.

    Args:
        folder: of the entry.
        store: where links may lead; the Hub's cache keeps files as links to its store.

    Raises:
        NotFoundError: no entry there.
        MLRSError: something in it is off; the sentence says what.
    """
    if (folder / "lr.csv").is_file():
        inside = ", ".join(f"./{path.parent}" for path in folder.glob("*/schedule.safetensors"))
        raise NotFoundError(
            f"{folder} is a run, not an entry: {f'name {inside}' if inside else 'it learned no schedule'}"
        )
    if not (folder / "config.json").is_file():
        raise NotFoundError(f"no entry in {folder}: it has no config.json")
    content = {name: read_plain(folder / name, store) for name in FILES}
    config = parse_config(content["config.json"], str(folder / "config.json"))
    for name in LISTED:
        if name not in config.files:
            raise MLRSError(f"{folder / 'config.json'} does not list {name}: fetch the entry again")
        check_facts(content[name], config.files[name], folder / name)
    stage_arrays(content["schedule.safetensors"], len(config.method.stages), str(folder))
    parse_curves(content["curves.csv"], folder / "curves.csv")
    return Entry(folder, config, content["schedule.safetensors"])


def write_entry(
    folder: Path, config: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], curves: Mapping[int, Curve]
) -> Entry:
    """Write an entry and read it back. Identical content gives identical bytes.

    Args:
        folder: made if it is absent; its files are replaced.
        config: fields of `EntryConfig` but `format_version` and `files`.
        stages: per stage, the weights by name.
        curves: per seed, columns step, loss and lr.
    """
    import numpy as np
    from safetensors.numpy import save

    tensors = {
        f"stage-{i}/{name}": np.ascontiguousarray(value, dtype=np.float32)
        for i, weights in enumerate(stages)
        for name, value in sorted(weights.items())
    }
    parts = {"schedule.safetensors": save(tensors), "curves.csv": curves_text(curves).encode()}
    facts = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in parts.items()}
    checked = check_config({"format_version": 1, **config, "files": facts}, str(folder / "config.json"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in parts.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(data)
    write_text(folder / "README.md", card(checked))
    write_json(folder / "config.json", checked.model_dump(mode="json", exclude_none=True))
    return read_entry(folder)


def read_plain(path: Path, store: Path | None = None) -> bytes:
    """Bytes of a plain file of bounded size; no link is followed, but for those that lead into `store`."""
    if path.is_symlink() and not (store and path.resolve().is_relative_to(store.resolve())):
        raise MLRSError(f"{path} is a link and an entry holds plain files only: copy the file there")
    if not path.is_file():
        raise MLRSError(f"{path} is missing: fetch the entry again")
    size = path.stat().st_size
    if size > LARGEST:
        raise MLRSError(f"{path} has {size:,} bytes, more than the {LARGEST:,} that a file of an entry may have")
    return path.read_bytes()


def check_facts(data: bytes, facts: FileFacts, path: Path) -> None:
    """Compare a file with what is known of it."""
    if len(data) != facts.size:
        raise MLRSError(f"{path} has {len(data):,} bytes and should have {facts.size:,}: fetch the entry again")
    digest = hashlib.sha256(data).hexdigest()
    if digest != facts.sha256:
        raise MLRSError(
            f"{path} has SHA-256 {digest[:12]}… and should have {facts.sha256[:12]}…: fetch the entry again"
        )


def stage_arrays(data: bytes, stages: int, source: str) -> list[dict[str, Any]]:
    """Weights of every stage in float64, after a check of names, shapes, types and values."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from mlrs_cli.schedules.mlr_snet import SHAPES

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MLRSError(f"the weights of {source} cannot be read ({error}): fetch the entry again") from None
    expected = {f"stage-{i}/{name}": shape for i in range(stages) for name, shape in SHAPES.items()}
    odd = sorted(set(tensors) ^ set(expected))
    if odd:
        raise MLRSError(f"the weights of {source} do not fit its {stages} stages: {odd[0]} is missing or too many")
    for name, shape in expected.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != np.float32:
            raise MLRSError(
                f"{name} of {source} is {found.dtype}{list(found.shape)} and should be float32{list(shape)}"
            )
        if not np.isfinite(found).all():
            raise MLRSError(f"{name} of {source} holds a number that is not finite: this schedule is broken")
    return [{name: tensors[f"stage-{i}/{name}"].astype(np.float64) for name in SHAPES} for i in range(stages)]


def parse_curves(data: bytes, path: Path) -> dict[int, Curve]:
    """Columns step, loss and lr per seed.

    Raises:
        MLRSError: other columns, or values that are no finite numbers.
    """
    out: dict[int, Curve] = {}
    try:
        rows = csv.reader(io.StringIO(data.decode()), strict=True)
        sound = tuple(next(rows)) == CURVE_COLUMNS
        for seed, *values in rows:
            numbers = [float(value) for value in values]
            sound &= len(numbers) == 3 and all(map(math.isfinite, numbers))
            columns = out.setdefault(int(seed), {"step": [], "loss": [], "lr": []})
            for column, number in zip(columns.values(), numbers, strict=True):
                column.append(number)
    except (ValueError, StopIteration, csv.Error):
        sound = False
    if not sound:
        raise MLRSError(f"{path} is not a table of {', '.join(CURVE_COLUMNS)}: fetch the entry again")
    return out


def curve_rows(updates: Curve) -> Curve:
    """At most 1,000 rows of a run's log, evenly placed but for the first update, which sets the scale γ.

    Each loss is the mean since the row before.
    """
    count = len(updates["step"])
    every = max(1, -(-count // (CURVE_ROWS - 1)))
    ends = sorted({1, *range(every, count + 1, every)} if count else ())
    starts = [0, *ends][: len(ends)]
    return {
        "step": [updates["step"][end - 1] for end in ends],
        "loss": [sum(updates["loss"][start:end]) / (end - start) for start, end in zip(starts, ends, strict=True)],
        "lr": [updates["lr"][end - 1] for end in ends],
    }


def curves_text(curves: Mapping[int, Curve]) -> str:
    """CSV of the curves, numbers to 7 digits."""
    lines = [",".join(CURVE_COLUMNS)]
    for seed, columns in sorted(curves.items()):
        rows = zip(columns["step"], columns["loss"], columns["lr"], strict=True)
        lines += [f"{seed},{int(step)},{loss:.7g},{lr:.7g}" for step, loss, lr in rows]
    return "\n".join(lines) + "\n"
