"""A run folder: what one training was asked, what happened at each update and epoch, where it can go on.

config.json       the command and the resolved settings
environment.json  versions, machine, commit
lr.csv            step, loss, learning rate: one row an update
metrics.csv       one row an epoch
last.pt           checkpoint; best.pt: weights at the best validation accuracy, or at the end with nothing held out
summary.json      how it ended
"""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.files import replacing, write_json

__all__ = ["EPOCH_COLUMNS", "RunFolder", "read_run"]

UPDATE_COLUMNS = ("step", "loss", "lr")
EPOCH_COLUMNS = (
    "step", "epoch", "train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "lr", "seconds",
)  # fmt: skip
FLUSH_SECONDS = 2.0


class RunFolder:
    """Writes one run. Only the main process should hold a writing one (`write=True`); the others write nothing."""

    def __init__(self, path: Path, write: bool = True) -> None:
        self.path, self.write = path, write
        self.updates: list[tuple[int, float, float]] = []
        self.flushed = time.monotonic()

    def create(self, config: dict[str, Any], environment: dict[str, Any]) -> None:
        """Start a new run in an empty or absent folder."""
        if not self.write:
            return
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: choose another --out")
        if self.path.exists() and any(self.path.iterdir()):
            raise UsageError(
                f"{self.path} is not empty: choose another --out, or continue it with --resume {self.path}"
            )
        write_json(self.path / "config.json", config)
        write_json(self.path / "environment.json", environment)
        (self.path / "lr.csv").write_text(",".join(UPDATE_COLUMNS) + "\n")
        (self.path / "metrics.csv").write_text(",".join(EPOCH_COLUMNS) + "\n")

    def log_update(self, step: int, loss: float, lr: float) -> None:
        """Remember one update; the file follows within seconds."""
        self.updates.append((step, loss, lr))
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the remembered updates."""
        if self.write and self.updates:
            with (self.path / "lr.csv").open("a") as file:
                file.writelines(f"{step},{loss!r},{lr!r}\n" for step, loss, lr in self.updates)
        self.updates.clear()
        self.flushed = time.monotonic()

    def log_epoch(self, row: dict[str, Any]) -> None:
        """Write the metrics of one epoch."""
        if self.write:
            with (self.path / "metrics.csv").open("a") as file:
                values = (row.get(c) for c in EPOCH_COLUMNS)
                file.write(",".join("" if v is None else repr(v) for v in values) + "\n")

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, after the log up to it."""
        import torch

        self.flush()
        if self.write:
            with replacing(self.path / name) as temporary:
                torch.save(state, temporary)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if the run was stopped before its first."""
        import torch

        file = self.path / "last.pt"
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise MLRSError(
                f"{file} cannot be read ({type(error).__name__}): remove it to start the run over"
            ) from error
        return state

    def rewind(self, step: int) -> None:
        """Drop what was logged after `step` updates: a resumed run writes it again."""
        if not self.write:
            return
        for name in ("lr.csv", "metrics.csv"):
            lines = whole_lines(self.path / name)
            kept = [x for x in lines[1:] if x.split(",", 1)[0].isdigit() and int(x.split(",", 1)[0]) <= step]
            with replacing(self.path / name) as temporary:
                temporary.write_text("".join(lines[:1] + kept))

    def summarise(self, summary: dict[str, Any]) -> None:
        """Write how the run ended, or stands."""
        self.flush()
        if self.write:
            write_json(self.path / "summary.json", summary)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def read_run(path: Path) -> dict[str, Any]:
    """Settings, summary, updates and epochs of a run, finished or not; needs no torch.

    Returns:
        `config` and `summary` (dicts), `updates` (dict of columns), `epochs` (list of rows, numbers as floats).

    Raises:
        NotFoundError: no run there.
    """
    if not (path / "config.json").is_file():
        raise NotFoundError(f"no run in {path}: it has no config.json")
    config = json.loads((path / "config.json").read_text())
    summary = json.loads((path / "summary.json").read_text()) if (path / "summary.json").exists() else {}
    rows = list(csv.reader(whole_lines(path / "lr.csv")))[1:]
    updates = {name: [float(row[i]) for row in rows] for i, name in enumerate(UPDATE_COLUMNS)}
    epochs = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(whole_lines(path / "metrics.csv"))]
    return {"path": os.fspath(path), "config": config, "summary": summary, "updates": updates, "epochs": epochs}


def whole_lines(path: Path) -> list[str]:
    """Lines of a file that may be growing, without one that is still being written."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
