"""Regret: mean test error of a schedule that nobody tuned, minus that of the tuned one, on the same seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

__all__ = ["NEAR", "error_of", "regret", "spread", "summarise"]

NEAR = 0.5  # points of test accuracy


def error_of(result: dict[str, Any], split: str = "test") -> float:
    """Error of a run in per cent; a run that diverged has that of guessing."""
    accuracy = result.get(f"{split}_accuracy")
    if result["status"] == "diverged" or accuracy is None:
        return 100 * (1 - 1 / float(result["num_classes"]))
    return 100 * (1 - float(accuracy))


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation, 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def regret(errors: Sequence[float], tuned: Sequence[float]) -> tuple[float, float | None]:
    """Mean difference over seeds and the half width of its 95 % interval (Student's t, paired by seed; None of one seed).

    >>> regret([3.0, 4.0, 5.0], [1.0, 3.0, 2.0])
    (2.0, 2.484)
    """
    return mean_and_half([a - b for a, b in zip(errors, tuned, strict=True)])


def mean_and_half(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and the half width of its 95 % interval."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    half = float(t.ppf(0.975, len(values) - 1)) * spread(values) / math.sqrt(len(values))
    return round(mean, 6), round(half, 3)


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a schedule over all its tasks, the best first.

    Args:
        rows: one a task and schedule, as `mlrs_cli.compare.compare` makes them.

    Returns:
        Dicts with `schedule`, `tasks`, mean regret over tasks and half its 95 % interval over seeds, worst regret and the
        worst task (None without a tuned rival), share of tasks within `NEAR` of it, mean test error, runs that diverged,
        extra passes an update, seconds of a run's updates, time of an update against cosine.
    """
    out = []
    for schedule in dict.fromkeys(row["schedule"] for row in rows):
        own = [row for row in rows if row["schedule"] == schedule]
        tuned = [row for row in own if row["regret"] is not None]
        by_seed = [statistics.fmean(each) for each in zip(*(row["regrets"] for row in tuned), strict=True)]
        mean, half = mean_and_half(by_seed) if tuned else (None, None)
        worst = max(tuned, key=lambda row: row["regret"], default=None)
        out.append(
            {
                "schedule": schedule,
                "tasks": len(own),
                "mean_regret": mean,
                "interval": half,
                "worst_regret": worst and worst["regret"],
                "worst_task": worst and worst["task"],
                "within": sum(row["regret"] <= NEAR for row in tuned) / len(tuned) if tuned else None,
                "mean_error": statistics.fmean(row["error"] for row in own),
                "diverged": sum(row["diverged"] for row in own),
                "runs": sum(len(row["errors"]) for row in own),
                "forward": statistics.fmean(row["extra_forward"] / max(row["updates"], 1) for row in own),
                "backward": statistics.fmean(row["extra_backward"] / max(row["updates"], 1) for row in own),
                "seconds": statistics.fmean(row["seconds"] for row in own),
                "time": statistics.fmean(row["time"] for row in own),
            }
        )
    return sorted(out, key=lambda row: row["mean_error"] if row["mean_regret"] is None else row["mean_regret"])
