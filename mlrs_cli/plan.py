"""Which settings a run has and which folder it goes to: a new one, or one that is continued."""

from __future__ import annotations

import datetime
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.settings import RunSettings
from mlrs_cli.zoo.reference import Hand, find_entry, parse

__all__ = ["Plan", "make_settings", "plan_run", "with_task"]

S = TypeVar("S", bound=RunSettings)
MAY_CHANGE = {"device", "workers", "data_dir", "log"}  # where a run takes place, not what it computes
RUNS = Path("runs")


@dataclass(frozen=True)
class Plan(Generic[S]):
    """Settings and folder of a run; `resumed` where the folder already holds it."""

    settings: S
    path: Path
    resumed: bool


def make_settings(kind: type[S], values: dict[str, Any]) -> S:
    """Check values against the settings of a command; the first that is off becomes one sentence."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        flag = f"--{name.replace('_', '-')}"
        if first["type"] == "missing":
            raise UsageError(f"{flag} is missing: add it") from None
        raise UsageError(f"{flag}: {first['msg'].lower()}, got {first['input']!r}") from None


def with_task(given: dict[str, Any]) -> dict[str, Any]:
    """The given values, with the model and data set that a learned schedule was learned on where none are named."""
    reference = given.get("schedule")
    if reference is None or {"model", "dataset"} <= given.keys():
        return given
    parsed = parse(reference)
    entry = None if isinstance(parsed, Hand) else find_entry(parsed)
    if entry is None or entry.config.learned_on is None:
        return given
    return {"model": entry.config.learned_on.model, "dataset": entry.config.learned_on.dataset} | given


def plan_run(command: str, kind: type[S], given: dict[str, Any], out: Path | None, resume: str | None) -> Plan[S]:
    """Settle what to run and where, once for all processes.

    Args:
        command: `transfer` or `meta-train`.
        kind: its settings.
        given: what the user said; the rest are the kind's defaults.
        out: folder of a new run; a name with the time under `runs/` by default.
        resume: a run folder, or `auto`: the newest unfinished run of the same settings, else a new one.

    Raises:
        NotFoundError: no run to resume.
        UsageError: the run was started with other settings.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return decide(command, kind, given, out, resume)
    from accelerate.state import PartialState
    from accelerate.utils import broadcast_object_list

    device = given.get("device")
    if device is None and resume not in (None, "auto"):
        device = stored_config(Path(resume)).get("settings", {}).get("device")
    main = PartialState(cpu=device == "cpu").is_main_process
    plan = decide(command, kind, given, out, resume) if main else None
    (plan,) = broadcast_object_list([plan])
    assert isinstance(plan, Plan)
    return plan


def decide(command: str, kind: type[S], given: dict[str, Any], out: Path | None, resume: str | None) -> Plan[S]:
    """What `plan_run` decides, in one process."""
    if resume is None:
        settings = make_settings(kind, given)
        return Plan(settings, out or new_folder(settings), False)
    if resume != "auto" and out is not None:
        raise UsageError(f"--resume {resume} goes on in its own folder: drop --out")
    if resume != "auto":
        return continued(command, kind, given, Path(resume).expanduser())
    settings = make_settings(kind, given)
    if out is not None and (out / "config.json").is_file():
        return continued(command, kind, given, out)
    for path in (
        sorted(RUNS.glob("*/config.json"), key=lambda p: p.stat().st_mtime, reverse=True) if out is None else ()
    ):
        try:
            stored = stored_config(path.parent)
        except MLRSError:  # not a run of ours
            continue
        if stored.get("command") == command and not changes(stored["settings"], settings) and not ended(path.parent):
            return Plan(make_settings(kind, stored["settings"] | where(given)), path.parent, True)
    return Plan(settings, out or new_folder(settings), False)


def continued(command: str, kind: type[S], given: dict[str, Any], path: Path) -> Plan[S]:
    """A run that goes on: its own settings, none of them changed."""
    stored = stored_config(path)
    if stored.get("command") != command:
        raise UsageError(f"{path} is a run of mlrs {stored.get('command')}: resume it with that command")
    before = make_settings(kind, stored["settings"])
    differing = changes(stored["settings"], make_settings(kind, stored["settings"] | given))
    if differing:
        raise UsageError(
            f"{path} was started with other settings: {'; '.join(differing)}. Drop these flags, or start anew"
        )
    return Plan(make_settings(kind, before.model_dump() | where(given)), path, True)


def where(given: dict[str, Any]) -> dict[str, Any]:
    """The part of the given values that a resumed run may take anew."""
    return {k: v for k, v in given.items() if k in MAY_CHANGE}


def changes(stored: dict[str, Any], settings: RunSettings) -> list[str]:
    """`name: before → now` for each setting that differs and matters."""
    now = settings.model_dump(mode="json")
    return [f"{k}: {stored.get(k)} → {v}" for k, v in now.items() if k not in MAY_CHANGE and stored.get(k, v) != v]


def stored_config(path: Path) -> dict[str, Any]:
    """config.json of a run."""
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text())
        if "command" not in config or not isinstance(config.get("settings"), dict):
            raise NotFoundError(f"no run in {path}: its config.json is of something else")
    except (OSError, AttributeError, TypeError):
        raise NotFoundError(f"no run in {path}: it has no config.json") from None
    except ValueError as error:
        raise UsageError(f"{path / 'config.json'} is not JSON ({error}): start the run anew") from None
    return config


def ended(path: Path) -> bool:
    """Whether a run came to its end, a good one or not."""
    summary = path / "summary.json"
    return summary.is_file() and json.loads(summary.read_text()).get("status") in ("finished", "diverged")


def new_folder(settings: RunSettings) -> Path:
    """A folder under `runs/` named after the run and the time."""
    what: str = getattr(settings, "schedule", None) or getattr(settings, "name", None) or "run"
    words = [Path(what).name if "/" in what else what, settings.model, Path(settings.dataset).name]
    name = "-".join(re.sub(r"[^A-Za-z0-9.@=]+", "-", word).strip("-") for word in words)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = RUNS / f"{name}-{stamp}"
    number = 1
    while path.exists():
        number += 1
        path = RUNS / f"{name}-{stamp}-{number}"
    return path
