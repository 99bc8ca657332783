"""`mlrs compare` as a function: schedules that nobody tuned against the best of a tuning grid, on the same seeds."""

from __future__ import annotations

import csv
import datetime
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlrs_cli.compare.grid import grid, on_edge
from mlrs_cli.compare.pool import run_all
from mlrs_cli.compare.regret import error_of, regret, spread, summarise
from mlrs_cli.compare.runs import Job, code_version, make_job, outcome
from mlrs_cli.compare.tasks import CompareTask
from mlrs_cli.environment import environment
from mlrs_cli.errors import MLRSError, UsageError
from mlrs_cli.files import write_json, write_text
from mlrs_cli.schedules.named import LEARNED_ONLINE, TUNERS
from mlrs_cli.schedules.parameter_free import PARAMETER_FREE
from mlrs_cli.zoo.bundled import bundled_index

__all__ = ["ALWAYS", "Comparison", "all_schedules", "compare", "describe", "with_always", "write_report"]

ALWAYS = ("cosine", "linear", "fixed")
USUAL_TOO = ("hd:lr=usual", "rtho:lr=usual")  # as MLR-SNet's paper starts them
FINALISTS = 4  # of the grid's first seed, run on every seed
Told = Callable[[int, int, Job], None]


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Args:
        tasks: from `load_tasks`.
        schedules: references; `ALWAYS` are among them.
        seeds: 0 … seeds − 1.
        tune: whether the tuned rival is sought.
        cache: folder in which runs are kept.
        processes: runs at a time.
        shard: (i, n): do the i-th of n parts of the runs, counted from 0.
    """

    tasks: Sequence[CompareTask]
    schedules: Sequence[str]
    seeds: int
    tune: Literal["none", "grid"]
    cache: Path
    processes: int
    shard: tuple[int, int] = (0, 1)


def all_schedules() -> list[str]:
    """Everything that can be compared without a word more: the zoo's entries, tuners, and methods whose package is here."""
    from importlib.util import find_spec

    from mlrs_cli.optimizers import PACKAGES

    here = [name for name in PARAMETER_FREE if find_spec(PACKAGES[name])]
    entries = dict.fromkeys(row.name for row in bundled_index().entries)
    return [*entries, *LEARNED_ONLINE, *TUNERS, *USUAL_TOO, *here]


def with_always(schedules: Sequence[str]) -> list[str]:
    """The schedules, each once, `ALWAYS` first."""
    return list(dict.fromkeys([*ALWAYS, *schedules]))


def compare(what: Comparison, told: Told = lambda done, total, job: None) -> dict[str, Any] | None:
    """Do the runs that are missing, and sum up.

    Args:
        what: tasks, schedules, seeds.
        told: called with the runs done, all runs of this step, and the last.

    Returns:
        The report, plain data (`docs/compare.md` names its fields); None of a shard of several, which only runs.

    Raises:
        UsageError: nothing to compare.
        MLRSError: a run failed.
    """
    jobs, tuning = first_jobs(what)
    run_missing([*jobs, *(job for part in tuning.values() for job in part)], what, told)
    finals: dict[str, list[list[Job]]] = {}
    for task in what.tasks if tuning else ():
        if any(outcome(job) is None for job in tuning[task.name]):
            continue  # another shard has it
        best = sorted(tuning[task.name], key=lambda job: validation_rank([job]))[:FINALISTS]
        finals[task.name] = [[make_job(task, b.schedule, s, what.cache) for s in range(what.seeds)] for b in best]
    run_missing([job for part in finals.values() for each in part for job in each], what, told)
    if what.shard[1] > 1:
        return None
    return report(what, jobs, tuning, finals)


def first_jobs(what: Comparison) -> tuple[list[Job], dict[str, list[Job]]]:
    """The runs of the schedules, and by task those of the grid on the first seed."""
    if not what.tasks or what.seeds < 1:
        raise UsageError(f"nothing to compare: {len(what.tasks)} tasks and {what.seeds} seeds")
    jobs = [make_job(t, s, seed, what.cache) for t in what.tasks for s in what.schedules for seed in range(what.seeds)]
    if what.tune == "none":
        return jobs, {}
    return jobs, {t.name: [make_job(t, s, 0, what.cache) for s in grid(optimizer_of(t))] for t in what.tasks}


def describe(what: Comparison) -> dict[str, Any]:
    """What `compare` would do, without a run."""
    jobs, tuning = first_jobs(what)
    every = {job.path: job for job in (*jobs, *(job for part in tuning.values() for job in part))}
    finals = f", then up to {len(tuning) * FINALISTS * (what.seeds - 1)} of the grid's best" if tuning else ""
    return {
        "tasks": ", ".join(task.name for task in what.tasks),
        "schedules": ", ".join(what.schedules),
        "seeds": what.seeds,
        "runs": f"{len(every)}{finals}",
        "kept": sum(outcome(job) is not None for job in every.values()),
        "side by side": what.processes,
        "cache": str(what.cache),
    }


def optimizer_of(task: CompareTask) -> str:
    """Name of the task's optimizer."""
    return task.run("fixed", 0).optimizer


def order_of(job: Job, tasks: Sequence[CompareTask]) -> tuple[str, int, int]:
    """For sorting: runs on one data set follow each other, so that a process reads it once."""
    place = next(i for i, task in enumerate(tasks) if task.name == job.task)
    return job.settings.dataset, place, job.seed


def run_missing(jobs: Sequence[Job], what: Comparison, told: Told) -> None:
    """Do this shard's part of the runs that have not ended yet."""
    ordered = sorted(jobs, key=lambda job: order_of(job, what.tasks))
    part = list({job.path: job for job in ordered}.values())[what.shard[0] :: what.shard[1]]
    missing = [job for job in part if outcome(job) is None]
    done = len(part) - len(missing)

    def one_more(job: Job) -> None:
        nonlocal done
        done += 1
        told(done, len(part), job)

    run_all(missing, what.processes, one_more)


def ended(job: Job) -> dict[str, Any]:
    """Result of a run that has been done."""
    result = outcome(job)
    if result is None:
        raise MLRSError(f"the run in {job.path} has no result: give the command again")
    return result


def validation_rank(jobs: Sequence[Job]) -> tuple[float, float]:
    """For sorting, the best first: mean validation error over seeds, then mean validation loss."""
    results = [ended(job) for job in jobs]
    losses = [r["validation_loss"] if r["status"] == "finished" else float("inf") for r in results]
    return statistics.fmean(error_of(r, "validation") for r in results), statistics.fmean(losses)


def report(
    what: Comparison, jobs: Sequence[Job], tuning: dict[str, list[Job]], finals: dict[str, list[list[Job]]]
) -> dict[str, Any]:
    """All results as plain data."""
    tasks, rows, lines = [], [], []
    for task in what.tasks:
        names = dict.fromkeys(job.schedule for job in jobs)
        results = {s: [ended(j) for j in jobs if j.task == task.name and j.schedule == s] for s in names}
        cosine = statistics.fmean(result["update_seconds"] for result in results["cosine"])
        tuned = min(finals[task.name], key=validation_rank) if tuning else None
        tuned_errors = [error_of(ended(job)) for job in tuned] if tuned else None
        facts = {k: v for k, v in task.settings.items() if k not in ("device", "data_dir", "evaluate_every")}
        tasks.append({"name": task.name, **facts, "updates": results["cosine"][0]["updates"]})
        if tuned and tuned_errors:
            curve = mean_curve([ended(job) for job in tuned])
            tasks[-1]["tuned"] = {
                "schedule": tuned[0].schedule,
                "errors": tuned_errors,
                "error": statistics.fmean(tuned_errors),
                "std": spread(tuned_errors),
                "on_edge": on_edge(tuned[0].schedule, tuned[0].settings.optimizer),
                "tried": len(tuning[task.name]),
                "curve": curve,
            }
        for schedule, each in results.items():
            errors = [error_of(result) for result in each]
            difference = regret(errors, tuned_errors) if tuned_errors else (None, None)
            rows.append(
                {
                    "task": task.name,
                    "schedule": schedule,
                    "errors": errors,
                    "error": statistics.fmean(errors),
                    "std": spread(errors),
                    "regrets": [a - b for a, b in zip(errors, tuned_errors or (), strict=False)],
                    "regret": difference[0],
                    "interval": difference[1],
                    "diverged": sum(result["status"] == "diverged" for result in each),
                    "updates": round(statistics.fmean(result["updates"] for result in each)),
                    "extra_forward": statistics.fmean(result["extra_forward"] for result in each),
                    "extra_backward": statistics.fmean(result["extra_backward"] for result in each),
                    "seconds": statistics.fmean(result["update_seconds"] for result in each),
                    "time": statistics.fmean(result["update_seconds"] for result in each) / cosine,
                    "curve": mean_curve(each),
                }
            )
        grid_jobs = {
            job.path: job for job in (*tuning.get(task.name, ()), *(j for f in finals.get(task.name, ()) for j in f))
        }
        lines += [run_row(job, "grid") for job in grid_jobs.values()]
    lines = [run_row(job, "schedule") for job in jobs] + lines
    return {
        "date": datetime.date.today().isoformat(),
        "environment": environment(),
        "code": code_version(),
        "seeds": list(range(what.seeds)),
        "tune": what.tune,
        "processes": what.processes,
        "tasks": tasks,
        "summary": summarise(rows),
        "rows": rows,
        "runs": lines,
    }


def mean_curve(results: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Mean validation accuracy in per cent at the updates that every seed has."""
    tables = [dict(result["curve"]) for result in results]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, round(100 * statistics.fmean(table[step] for table in tables), 3)) for step in steps]


def run_row(job: Job, role: str) -> dict[str, Any]:
    """One run for the table of runs."""
    result = ended(job)
    names = (
        "status",
        "updates",
        "validation_accuracy",
        "test_accuracy",
        "extra_forward",
        "extra_backward",
        "update_seconds",
    )
    return {
        "task": job.task,
        "role": role,
        "schedule": job.schedule,
        "seed": job.seed,
        **{name: result[name] for name in names},
        "test_error": round(error_of(result), 4),
    }


def write_report(result: dict[str, Any], folder: Path) -> None:
    """Write results.json and results.csv, one row a run."""
    write_json(folder / "results.json", {k: v for k, v in result.items() if k != "runs"})
    text = io.StringIO()
    table = csv.DictWriter(text, list(result["runs"][0]), lineterminator="\n")
    table.writeheader()
    table.writerows(result["runs"])
    write_text(folder / "results.csv", text.getvalue())
