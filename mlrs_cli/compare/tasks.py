"""What schedules are compared on: a file of tasks, or one that ships with the package."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrs_cli.errors import NotFoundError, UsageError, nearest
from mlrs_cli.plan import make_settings
from mlrs_cli.settings import TransferSettings

__all__ = ["CompareTask", "load_tasks", "presets"]

FOLDER = Path(__file__).parent / "presets"
NOT_OF_A_TASK = ("schedule", "seed", "lr_scale", "log")
MEASURED = 5  # times, about, that the validation split is measured along a run


@dataclass(frozen=True)
class CompareTask:
    """A task: its name, and the settings of a run on it, which lack schedule and seed."""

    name: str
    settings: dict[str, Any]

    def run(self, schedule: str, seed: int) -> TransferSettings:
        """The settings of one run."""
        return make_settings(TransferSettings, {**self.settings, "schedule": schedule, "seed": seed})


def presets() -> list[str]:
    """Names of the task files that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_tasks(source: str, device: str | None = None, data_dir: str | None = None) -> list[CompareTask]:
    """The tasks of a preset or a TOML file: one table a task, its keys those of `mlrs transfer --config`.

    Args:
        source: a preset's name, or a path that ends in .toml.
        device: where all runs take place.
        data_dir: where all data lie.

    Raises:
        NotFoundError: no such preset or file.
        UsageError: a table is off.
    """
    path = Path(source).expanduser() if source.endswith(".toml") else FOLDER / f"{source}.toml"
    if not path.is_file():
        if source.endswith(".toml"):
            raise NotFoundError(f"no file {source}: check --tasks")
        raise NotFoundError(f"no preset '{source}': {nearest(source, presets())} (your own: a path ending in .toml)")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    where = {k: v for k, v in (("device", device), ("data_dir", data_dir)) if v is not None}
    tasks = [make_task(name, table, where, path) for name, table in content.items()]
    if not tasks:
        raise UsageError(f"{path} holds no task: write a table for each, as in [my-task]")
    return tasks


def make_task(name: str, table: Any, where: dict[str, Any], path: Path) -> CompareTask:
    """One table as a task."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: '{name}' is no table: write a task as [{name}], its keys below")
    settings = {key.replace("-", "_"): value for key, value in table.items()}
    known = set(TransferSettings.model_fields) - set(NOT_OF_A_TASK)
    for key in settings:
        if key not in known:
            raise UsageError(f"{path}: task '{name}' sets '{key}', which no task has: {nearest(key, known)}")
    if "steps" in settings and "epochs" in settings:
        raise UsageError(f"{path}: task '{name}' has both steps and epochs: give one")
    if isinstance(settings.get("steps"), int):
        settings.setdefault("evaluate_every", max(1, settings["steps"] // MEASURED))
    if str(settings.get("dataset")).startswith(
        "folder:"
    ):  # runs are kept, and another project may have such a folder too
        folder = Path(settings["dataset"].removeprefix("folder:")).expanduser().resolve()
        settings["dataset"] = f"folder:{folder}"
    task = CompareTask(name, settings | where)
    try:
        checked = task.run("fixed", 0)
    except UsageError as error:
        raise UsageError(f"{path}: task '{name}': {error}") from None
    if checked.validation_size == 0:
        raise UsageError(
            f"{path}: task '{name}' holds nothing out and the tuned rival is chosen on validation data: raise it"
        )
    return task
