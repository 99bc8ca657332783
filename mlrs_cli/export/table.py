"""The learning-rate table of a budget, as CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["as_csv", "as_json"]


def as_csv(losses: Sequence[float], rates: Sequence[float]) -> str:
    """`step,loss,lr`, one row an update, steps counted from 1."""
    rows = [f"{step},{loss!r},{rate!r}" for step, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=1)]
    return "\n".join(["step,loss,lr", *rows]) + "\n"


def as_json(label: str, num_classes: int, losses: Sequence[float], rates: Sequence[float]) -> str:
    """One document with the columns as lists."""
    document = {
        "schedule": label,
        "budget": len(rates),
        "num_classes": num_classes,
        "loss": list(losses),
        "lr": list(rates),
    }
    return json.dumps(document) + "\n"
