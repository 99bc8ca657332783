"""The runs of a comparison, kept by what they are: the same task, schedule, seed and code are never run twice."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mlrs_cli.compare.tasks import CompareTask
from mlrs_cli.errors import DivergedError
from mlrs_cli.optimizers import PACKAGES
from mlrs_cli.plan import MAY_CHANGE, Plan
from mlrs_cli.run import whole_lines
from mlrs_cli.settings import TransferSettings
from mlrs_cli.transfer import find_schedule, identity_of, transfer

__all__ = ["Job", "code_version", "execute", "make_job", "outcome"]

# What a result depends on; a change elsewhere keeps the runs.
DECIDING = ("direction.py", "learner.py", "optimizers.py", "settings.py", "tangent.py", "train.py", "transfer.py")
DECIDING_ROOMS = ("meta", "schedules", "tasks")
DROPPED = ("last.pt", "best.pt")


@dataclass(frozen=True)
class Job:
    """One run: what, and where it is kept. A schedule that is a folder goes by the folder's name."""

    task: str
    schedule: str
    seed: int
    settings: TransferSettings
    path: Path


@functools.cache
def code_version() -> str:
    """SHA-256 of the source files that decide a result, and torch's version."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(metadata.version("torch").encode())
    rooms = [file for room in DECIDING_ROOMS for file in sorted((package / room).rglob("*.py"))]
    for file in [*(package / name for name in DECIDING), *rooms]:
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def make_job(task: CompareTask, schedule: str, seed: int, cache: Path) -> Job:
    """A run and its place in the cache, a hash of all that decides its result.

    Raises:
        MLRSError: the schedule does not resolve, or its package is missing.
    """
    settings = task.run(schedule, seed)
    resolved, factor = find_schedule(settings)
    brought = resolved.schedule.brings
    what = {
        "settings": {k: v for k, v in settings.model_dump(mode="json").items() if k not in {*MAY_CHANGE, "schedule"}},
        "schedule": identity_of(resolved, factor),
        "brought": metadata.version(PACKAGES[brought]) if brought else None,
        "code": code_version(),
    }
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    label = Path(schedule).name if resolved.entry and "/" in schedule else schedule
    return Job(task.name, label, seed, settings, cache / key[:2] / key[2:34])


def execute(job: Job) -> None:
    """Do a run, or go on with it where it was stopped; weights are not kept. Divergence is a result like any other."""
    started = (job.path / "config.json").is_file() and (job.path / "metrics.csv").is_file()
    if not started:
        shutil.rmtree(job.path, ignore_errors=True)
    try:
        transfer(Plan(job.settings, job.path, started))
    except DivergedError:
        if outcome(job) is None:
            raise
    for name in DROPPED:
        (job.path / name).unlink(missing_ok=True)


def outcome(job: Job) -> dict[str, Any] | None:
    """Result of a run, None where it has not ended: its summary, its number of classes, its validation curve."""
    try:
        summary: dict[str, Any] = json.loads((job.path / "summary.json").read_text())
        config = json.loads((job.path / "config.json").read_text())
        rows = list(csv.DictReader(whole_lines(job.path / "metrics.csv")))
    except (OSError, ValueError):
        return None
    if summary.get("status") not in ("finished", "diverged"):
        return None
    curve = [(int(row["step"]), float(row["validation_accuracy"])) for row in rows if row["validation_accuracy"]]
    return {**summary, "num_classes": config["num_classes"], "curve": curve}
