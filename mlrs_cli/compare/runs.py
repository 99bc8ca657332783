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

from filelock import FileLock

from mlrs_cli.compare.tasks import CompareTask
from mlrs_cli.errors import DivergedError, MLRSError
from mlrs_cli.optimizers import PACKAGES
from mlrs_cli.plan import MAY_CHANGE, Plan
from mlrs_cli.run import whole_lines
from mlrs_cli.settings import TransferSettings
from mlrs_cli.tasks.small_models import SMALL_MODELS
from mlrs_cli.transfer import find_schedule, identity_of, transfer

__all__ = ["Job", "best_device", "code_version", "execute", "make_job", "outcome"]

# What a result depends on; a change elsewhere keeps the runs.
DECIDING = (
    "direction.py",
    "learner.py",
    "optimizers.py",
    "questions.py",
    "settings.py",
    "tangent.py",
    "train.py",
    "transfer.py",
    "zoo/config.py",
    "zoo/entry.py",
)
DECIDING_ROOMS = ("meta", "schedules", "tasks")
DROPPED = ("last.pt", "best.pt")


@dataclass(frozen=True)
class Job:
    """One run: what, under which label, and where it is kept."""

    task: str
    label: str
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


def make_job(task: CompareTask, schedule: str, seed: int, cache: Path, label: str | None = None) -> Job:
    """A run and its place in the cache.

    Raises:
        MLRSError: the schedule does not resolve, or its package is missing.
    """
    settings = task.run(schedule, seed)
    key = key_of(settings)
    return Job(task.name, label or schedule, seed, settings, cache / key[:2] / key[2:])


def key_of(settings: TransferSettings) -> str:
    """Hash of all that decides the result of a run."""
    resolved, factor = find_schedule(settings)
    brought = resolved.schedule.brings
    what = {
        "settings": {k: v for k, v in settings.model_dump(mode="json").items() if k not in {*MAY_CHANGE, "schedule"}},
        "schedule": identity_of(resolved, factor),
        "brought": metadata.version(PACKAGES[brought]) if brought else None,
        "code": code_version(),
        **surroundings(settings),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:34]


def surroundings(settings: TransferSettings) -> dict[str, Any]:
    """What else decides a result, where it does: the kind of device, the package of a model, what a folder of images holds."""
    found: dict[str, Any] = {}
    device = best_device() if settings.device == "auto" else settings.device
    if device != "cpu":
        found["device"] = device
    if settings.model not in SMALL_MODELS:
        package = "timm" if settings.model.startswith(("timm:", "hf-hub:")) else "torchvision"
        found["packages"] = {package: metadata.version(package)}
    if settings.dataset.startswith("folder:"):
        found["images"] = images_in(settings.dataset.removeprefix("folder:"))
    return found


@functools.cache
def best_device() -> str:
    """Kind of device that a run takes by itself."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else str(found.type)


@functools.cache
def images_in(folder: str) -> list[int]:
    """Number of files below a folder, their bytes, and when the newest was changed."""
    facts = [path.stat() for path in Path(folder).rglob("*") if path.is_file()]
    return [len(facts), sum(f.st_size for f in facts), max((f.st_mtime_ns for f in facts), default=0)]


def execute(job: Job) -> None:
    """Do a run, or go on with it where it was stopped; weights are not kept. Divergence is a result like any other.

    A lock keeps others, on this machine or a shared disk, from the same run; who waited finds it done.

    Raises:
        MLRSError: what decides the result is no longer what the run is to be kept under.
    """
    job.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(job.path.with_suffix(".lock")):
        if outcome(job) is not None:
            return
        if job.path.name != key_of(job.settings)[2:]:
            raise MLRSError(
                "the schedule, its data or the source changed after the comparison had begun: give the command again"
            )
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
    """Result of a run, None where it has not ended: its summary, number of classes, environment, machine, validation curve."""
    try:
        summary: dict[str, Any] = json.loads((job.path / "summary.json").read_text())
        if summary.get("status") not in ("finished", "diverged"):
            return None
        config = json.loads((job.path / "config.json").read_text())
        where = json.loads((job.path / "environment.json").read_text())
        rows = csv.DictReader(whole_lines(job.path / "metrics.csv"))
        curve = [(int(row["step"]), float(row["validation_accuracy"])) for row in rows if row["validation_accuracy"]]
        classes, machine = config["num_classes"], f"{where['processor']}, cores of a run: {where['cores']}"
        return {**summary, "num_classes": classes, "environment": where, "machine": machine, "curve": curve}
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is run anew
        return None
