"""`mlrs compare` as a function: schedules that nobody tuned against the best of a tuning grid, on the same seeds."""

from __future__ import annotations

import datetime
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlrs_cli.compare.grid import grid, on_edge
from mlrs_cli.compare.pool import run_all
from mlrs_cli.compare.regret import error_of, regret, spread, summarise
from mlrs_cli.compare.runs import Job, code_version, make_job, outcome
from mlrs_cli.compare.tasks import CompareTask
from mlrs_cli.errors import MLRSError, UsageError
from mlrs_cli.labels import shown
from mlrs_cli.schedules.named import LEARNED_ONLINE, NAMED, TUNERS
from mlrs_cli.schedules.parameter_free import PARAMETER_FREE
from mlrs_cli.transfer import find_schedule
from mlrs_cli.zoo.bundled import bundled_index

__all__ = ["ALWAYS", "Comparison", "all_schedules", "compare", "describe", "ready", "with_always"]

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


def all_schedules(tasks: Sequence[CompareTask]) -> tuple[list[str], dict[str, str]]:
    """Everything that can be compared without a word more: the zoo's entries and all methods.

    Returns:
        References that every task can take, and why the others were left out: a package is not installed, say.
    """
    entries = dict.fromkeys(row.name for row in bundled_index().entries)
    left_out: dict[str, str] = {}
    names = [*entries, *LEARNED_ONLINE, *TUNERS, *USUAL_TOO, *PARAMETER_FREE]
    for name, task in itertools.product(names, tasks):
        try:
            find_schedule(task.run(name, 0))
        except UsageError as error:
            left_out.setdefault(name, str(error))
    return [name for name in names if name not in left_out], left_out


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
    run_missing([*jobs, *flat(tuning)], what, told)
    finals: dict[str, list[list[Job]]] = {}
    for task in what.tasks if tuning else ():
        if any(outcome(job) is None for job in tuning[task.name]):
            continue  # another shard has it
        best = sorted(tuning[task.name], key=lambda job: validation_rank([job]))[:FINALISTS]
        finals[task.name] = [[make_job(task, b.label, s, what.cache) for s in range(what.seeds)] for b in best]
    run_missing([job for part in finals.values() for seeds in part for job in seeds], what, told)
    return report(what, jobs, tuning, finals) if what.shard[1] == 1 else None


def describe(what: Comparison) -> dict[str, Any]:
    """What `compare` would do, without a run."""
    jobs, tuning = first_jobs(what)
    every = distinct([*jobs, *flat(tuning)])
    finals = f", then up to {len(tuning) * FINALISTS * (what.seeds - 1)} of the grid's best" if tuning else ""
    return {
        "tasks": ", ".join(task.name for task in what.tasks),
        "schedules": ", ".join(what.schedules),
        "seeds": what.seeds,
        "runs": f"{len(every)}{finals}",
        "kept": sum(outcome(job) is not None for job in every),
        "side by side": what.processes,
        "cache": str(what.cache),
    }


def first_jobs(what: Comparison) -> tuple[list[Job], dict[str, list[Job]]]:
    """The runs of the schedules, and by task those of the grid on the first seed."""
    if not what.tasks or what.seeds < 1:
        raise UsageError(f"nothing to compare: {len(what.tasks)} tasks and {what.seeds} seeds")
    names = labels(what.schedules)
    seeds = range(what.seeds)
    jobs = [make_job(t, s, seed, what.cache, names[s]) for t in what.tasks for s in what.schedules for seed in seeds]
    if what.tune == "none":
        return jobs, {}
    return jobs, {t.name: [make_job(t, s, 0, what.cache) for s in grid(optimizer_of(t))] for t in what.tasks}


def labels(schedules: Sequence[str]) -> dict[str, str]:
    """What each reference goes by: a folder by its last name, where no other has it.

    >>> labels(["cosine", "./learned/mine", "./cosine"])
    {'cosine': 'cosine', './learned/mine': 'mine', './cosine': './cosine'}
    """
    short = {s: Path(s).resolve().name if s.startswith((".", "/", "~")) else s for s in schedules}
    return {s: name if list(short.values()).count(name) == 1 else s for s, name in short.items()}


def flat(tuning: dict[str, list[Job]]) -> list[Job]:
    """The grid's runs of every task."""
    return [job for part in tuning.values() for job in part]


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each run once."""
    return list({job.path: job for job in jobs}.values())


def optimizer_of(task: CompareTask) -> str:
    """Name of the task's optimizer."""
    return task.run("fixed", 0).optimizer


def run_missing(jobs: Sequence[Job], what: Comparison, told: Told) -> None:
    """Do this shard's part of the runs that have not ended yet; runs on one data set follow each other, so that a process
    reads it once. Which shard has a run is decided by the run alone.
    """
    places = {task.name: place for place, task in enumerate(what.tasks)}
    ordered = sorted(jobs, key=lambda job: (job.settings.dataset, places[job.task], job.seed))
    part = [job for job in distinct(ordered) if int(job.path.name, 16) % what.shard[1] == what.shard[0]]
    missing = [job for job in part if outcome(job) is None]
    done = len(part) - len(missing)

    def one_more(job: Job) -> None:
        nonlocal done
        done += 1
        told(done, len(part), job)

    run_all(missing, what.processes, one_more)


def result_of(job: Job) -> dict[str, Any]:
    """Result of a run that has been done."""
    result = outcome(job)
    if result is None:
        raise MLRSError(f"the run in {job.path} has no result: give the command again")
    return result


def validation_rank(jobs: Sequence[Job]) -> tuple[int, float, float]:
    """For sorting, the best first: seeds that diverged, mean validation error over seeds, mean validation loss."""
    results = [result_of(job) for job in jobs]
    ended = [r for r in results if r["status"] == "finished"]
    if any(r["validation_accuracy"] is None for r in ended):
        raise UsageError(f"task '{jobs[0].task}' has no validation examples to choose by: set its validation-size")
    losses = [r["validation_loss"] for r in ended] or [0.0]
    error = statistics.fmean(error_of(r, "validation") for r in results)
    return len(results) - len(ended), error, statistics.fmean(losses)


def report(
    what: Comparison, jobs: Sequence[Job], tuning: dict[str, list[Job]], finals: dict[str, list[list[Job]]]
) -> dict[str, Any]:
    """All results as plain data."""
    tasks, rows, tried = [], [], []
    for task in what.tasks:
        own = [job for job in jobs if job.task == task.name]
        by_schedule = {name: [job for job in own if job.label == name] for name in dict.fromkeys(j.label for j in own)}
        best = min(finals[task.name], key=validation_rank) if tuning else None
        tasks.append(task_row(task, own, best, len(tuning.get(task.name, ()))))
        pace = pace_of(by_schedule["cosine"])
        rows += [schedule_row(each, best, pace) for each in by_schedule.values()]
        tried += distinct([*tuning.get(task.name, ()), *(job for seeds in finals.get(task.name, ()) for job in seeds)])
    return {
        "date": datetime.date.today().isoformat(),
        "environment": merged([result_of(job)["environment"] for job in (*jobs, *tried)]),
        "machines": sorted({result_of(job)["machine"] for job in (*jobs, *tried)}),
        "code": code_version(),
        "seeds": list(range(what.seeds)),
        "tune": what.tune,
        "processes": what.processes,
        "tasks": tasks,
        "summary": summarise(rows),
        "rows": rows,
        "runs": [*(run_row(job, "schedule", what) for job in jobs), *(run_row(job, "grid", what) for job in tried)],
    }


def merged(environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What runs were made with; where they differ, all that there was.

    >>> merged([{"torch": "2.14", "cores": 1}, {"torch": "2.15", "cores": 1}])
    {'torch': '2.14 / 2.15', 'cores': 1}
    """
    out = {}
    for name in dict.fromkeys(name for each in environments for name in each):
        found = list(dict.fromkeys(each[name] for each in environments if each.get(name) is not None))
        out[name] = found[0] if len(found) == 1 else " / ".join(sorted(map(str, found))) or None
    return out


def task_row(task: CompareTask, jobs: Sequence[Job], best: Sequence[Job] | None, tried: int) -> dict[str, Any]:
    """A task, and the tuned rival on it."""
    facts = {k: v for k, v in task.settings.items() if k not in ("device", "data_dir", "evaluate_every")}
    row = {"name": task.name, **facts, "updates": max(result_of(job)["updates"] for job in jobs)}
    if best is None:
        return row
    results = [result_of(job) for job in best]
    errors = [error_of(result) for result in results]
    tuned = {
        "schedule": best[0].label,
        "errors": errors,
        "error": statistics.fmean(errors),
        "std": spread(errors),
        "diverged": sum(result["status"] == "diverged" for result in results),
        "on_edge": on_edge(best[0].label, best[0].settings.optimizer),
        "tried": tried,
        "curve": mean_curve(results),
    }
    return {**row, "tuned": tuned}


def schedule_row(jobs: Sequence[Job], best: Sequence[Job] | None, pace: float) -> dict[str, Any]:
    """A schedule on a task, over its seeds; `pace` in seconds an update is what its time is told by."""
    results = [result_of(job) for job in jobs]
    errors = [error_of(result) for result in results]
    tuned = [error_of(result_of(job)) for job in best] if best else None
    mean, half = regret(errors, tuned) if tuned else (None, None)
    names = ("updates", "extra_forward", "extra_backward")
    method = jobs[0].settings.schedule.partition(":")[0]
    return {
        "task": jobs[0].task,
        "schedule": jobs[0].label,
        "label": shown(jobs[0].label),
        "held_out": method in LEARNED_ONLINE or (method in NAMED and NAMED[method].needs_validation),
        "errors": errors,
        "error": statistics.fmean(errors),
        "std": spread(errors),
        "regrets": [a - b for a, b in zip(errors, tuned, strict=True)] if tuned else [],
        "regret": mean,
        "interval": half,
        "diverged": sum(result["status"] == "diverged" for result in results),
        **{name: statistics.fmean(result[name] for result in results) for name in names},
        "seconds": statistics.fmean(result["update_seconds"] for result in results),
        "time": pace_of(jobs) / pace if pace else 1.0,
        "curve": mean_curve(results),
    }


def pace_of(jobs: Sequence[Job]) -> float:
    """Seconds of an update, over all seeds."""
    results = [result_of(job) for job in jobs]
    updates: int = sum(result["updates"] for result in results)
    return float(sum(result["update_seconds"] for result in results)) / max(updates, 1)


def mean_curve(results: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Mean validation accuracy in per cent at the updates that every seed has."""
    tables = [dict(result["curve"]) for result in results]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, round(100 * statistics.fmean(table[step] for table in tables), 3)) for step in steps]


def run_row(job: Job, role: str, what: Comparison) -> dict[str, Any]:
    """One run for the table of runs; `run` is its folder in the cache."""
    result = result_of(job)
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
        "schedule": shown(job.label),
        "seed": job.seed,
        **{name: result[name] for name in names},
        "test_error": round(error_of(result), 4),
        "run": job.path.relative_to(what.cache).as_posix(),
    }


def ready(folder: Path) -> None:
    """Make the folder of a report, before the work that is to end there.

    Raises:
        UsageError: something else has that name, or it may not be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder} cannot be made a folder ({error.strerror}): name another") from None
