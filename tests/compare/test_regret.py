"""Regret and its interval against scipy's paired test; what counts as what in the summary."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from mlrs_cli.compare.regret import error_of, regret, spread, summarise


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    ours, tuned = [7.1, 6.4, 9.0, 8.2], [5.0, 5.5, 6.1, 7.7]
    mean, half = regret(ours, tuned)
    low, high = stats.ttest_rel(ours, tuned).confidence_interval(0.95)
    assert mean == pytest.approx((low + high) / 2)
    assert half == pytest.approx((high - low) / 2, abs=5e-4)


def test_one_seed_has_no_interval() -> None:
    assert regret([3.0], [2.5]) == (0.5, None)
    assert spread([3.0]) == 0.0


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"status": "finished", "test_accuracy": 0.875, "num_classes": 10}, 12.5),
        ({"status": "diverged", "test_accuracy": None, "num_classes": 10}, 90.0),
        ({"status": "diverged", "test_accuracy": 0.875, "num_classes": 4}, 75.0),
    ],
)
def test_a_run_that_diverged_counts_as_guessing(result: dict[str, Any], error: float) -> None:
    assert error_of(result) == error


def row(schedule: str, task: str, regret: float | None, error: float, **more: Any) -> dict[str, Any]:
    plain = {
        "diverged": 0,
        "updates": 10,
        "extra_forward": 5.0,
        "extra_backward": 0.0,
        "seconds": 2.0,
        "time": 1.0,
        "errors": [error],
    }
    return {
        "schedule": schedule,
        "task": task,
        "regret": regret,
        "regrets": [] if regret is None else [regret],
        "error": error,
        **plain,
        **more,
    }


def test_the_summary_has_mean_worst_and_share_and_puts_the_best_first() -> None:
    rows = [
        row("a", "t", 0.4, 5.0),
        row("a", "u", 1.6, 9.0),
        row("b", "t", 0.5, 5.1, diverged=1),
        row("b", "u", 0.1, 7.5),
    ]
    best, other = summarise(rows)
    assert (best["schedule"], best["within"], best["diverged"], best["runs"]) == ("b", 1.0, 1, 2)
    assert (other["schedule"], other["mean_regret"], other["worst_regret"], other["worst_task"]) == ("a", 1.0, 1.6, "u")
    assert (other["within"], other["forward"]) == (0.5, 0.5)


def test_without_a_tuned_rival_the_error_decides() -> None:
    rows = [row("a", "t", None, 5.0), row("b", "t", None, 4.0)]
    assert [r["schedule"] for r in summarise(rows)] == ["b", "a"]
    assert summarise(rows)[0]["mean_regret"] is None
