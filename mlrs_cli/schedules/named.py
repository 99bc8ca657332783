"""Schedules by name: what `NAME` or `NAME:key=value,…` stands for, and the defaults that go with an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mlrs_cli.errors import NotFoundError, UsageError, nearest
from mlrs_cli.schedules.contract import Schedule
from mlrs_cli.schedules.conversion import USUAL
from mlrs_cli.schedules.handmade import HANDMADE
from mlrs_cli.schedules.hd import HD
from mlrs_cli.schedules.l4 import L4
from mlrs_cli.schedules.lrtuner import LRTuner
from mlrs_cli.schedules.marthe import MARTHE
from mlrs_cli.schedules.parameter_free import PARAMETER_FREE
from mlrs_cli.schedules.rtho import RTHO

__all__ = ["LEARNED_ONLINE", "NAMED", "TUNERS", "parse_named"]

TUNERS: dict[str, type[Schedule]] = {"hd": HD, "rtho": RTHO, "marthe": MARTHE, "l4": L4, "lrtuner": LRTuner}
NAMED: dict[str, type[Schedule]] = {**HANDMADE, **TUNERS, **PARAMETER_FREE}
LEARNED_ONLINE = ("mlr-snet", "mlr-scalar")  # made by `mlrs_cli.meta.online`, where torch is at hand
SPELLED = {"peak": "lr", "start": "lr"}  # field → how a reference writes it


def parse_named(text: str, optimizer: str = "sgd", kinds: Mapping[str, type[Schedule]] = NAMED) -> Schedule:
    """Schedule of a reference `NAME` or `NAME:key=value,…`; a list is written with slashes.

    What the reference does not say has the default that goes with the optimizer; `lr=usual` is the rate that practice
    starts from with it, for methods whose own default is another.

    >>> parse_named("multistep:lr=0.3,milestones=0.5/0.75")
    MultiStep(peak=0.3, milestones=(0.5, 0.75), factor=0.1)
    >>> parse_named("cosine", "adam")
    Cosine(peak=0.001, final=0.0)
    >>> parse_named("hd:lr=usual").start
    0.1

    Raises:
        NotFoundError: no schedule has that name.
        UsageError: a key or value is off.
    """
    name, _, rest = text.partition(":")
    if name not in kinds:
        raise NotFoundError(f"no schedule '{name}': {nearest(name, kinds)}")
    kind: Any = kinds[name]
    settings: dict[str, Any] = {f.name: f.default for f in fields(kind) if f.init}
    keys = {SPELLED.get(field, field): field for field in settings}
    values: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        if key not in keys:
            raise UsageError(f"schedule '{name}' has no setting '{key}': {nearest(key, keys)}")
        if (key, value) == ("lr", "usual"):
            value = str(USUAL[optimizer])
        try:
            many = tuple(float(v) for v in value.split("/"))
        except ValueError:
            raise UsageError(f"'{key}' of schedule '{name}' takes a number, got '{value}'") from None
        field = keys[key]
        if field in values:
            raise UsageError(f"schedule '{name}' has '{key}' twice: give it once")
        listed = isinstance(settings[field], tuple)
        if len(many) > 1 and not listed:
            raise UsageError(f"'{key}' of schedule '{name}' takes one number, got '{value}'")
        if isinstance(settings[field], int) and not many[0].is_integer():
            raise UsageError(f"'{key}' of schedule '{name}' takes a whole number, got '{value}'")
        values[field] = many if listed else int(many[0]) if isinstance(settings[field], int) else many[0]
    defaults = kind.adam if optimizer in ("adam", "adamw") else {}
    schedule: Schedule = kind(**(defaults | values))
    return schedule
