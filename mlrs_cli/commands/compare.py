"""`mlrs compare`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlrs_cli.commands import options as o
from mlrs_cli.commands.display import Bar, note, print_columns, print_json, print_table
from mlrs_cli.errors import UsageError

__all__ = ["EXAMPLES", "command"]

EXAMPLES = [
    "mlrs compare --tasks smoke --schedules cifar10-resnet18,lrtuner --seeds 1 --tune none --out compared",
    "mlrs compare --tasks small --seeds 3 --out compared",
    "mlrs compare --tasks my-tasks.toml --schedules ./my-entry,cosine:lr=0.05,hd:beta=0.01 --shard 0/8 --out compared",
]

Tasks = Annotated[
    str, typer.Option("--tasks", metavar="PRESET|FILE.toml", help="smoke, small, or a file with a table a task.")
]
Schedules = Annotated[
    str | None,
    typer.Option(
        "--schedules",
        metavar="A,B,…",
        help="Names as in mlrs transfer. Cosine, linear and fixed at the usual rate are always compared. "
        "\\[default: all that the tasks can take]",
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Runs of each schedule on each task.")]
Tune = Annotated[
    str,
    typer.Option(
        "--tune",
        metavar="grid|none",
        help="Seek the best hand-made schedule on each task, over 7 peak rates and 4 shapes; or leave regret out.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, help="Runs at a time, each on its share of the cores. \\[default: one a core; on a GPU one]"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many runs there are and how many are kept, and stop.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the report.")]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Do part I (from 0) of N of the runs, and no report; under torchrun its rank."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Where runs are kept. \\[default: $MLRS_CACHE/compare or ~/.cache/mlrs/compare]"),
]


def command(
    tasks: Tasks,
    out: Out,
    schedules: Schedules = None,
    seeds: Seeds = 3,
    tune: Tune = "grid",
    jobs: Jobs = None,
    shard: Shard = None,
    cache: Cache = None,
    device: o.Device = None,
    data_dir: o.DataDir = None,
    dry_run: DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare schedules that nobody tuned with the best of a tuning grid, and with each other. lrtuner is a reconstruction.

    Runs are kept: a comparison that was stopped goes on where it was, and a larger one runs only what is missing.
    """
    if tune not in ("grid", "none"):
        raise UsageError(f"--tune {tune}: write grid or none")
    part = parse_shard(shard)
    os.environ.pop("RANK", None)  # parts are equals: each says how far it is, and what went wrong
    from mlrs_cli.compare.compare import Comparison, all_schedules, compare, describe, ready, with_always
    from mlrs_cli.compare.pool import default_jobs
    from mlrs_cli.compare.tasks import load_tasks
    from mlrs_cli.report.comparison import write_report

    each = load_tasks(tasks, device, data_dir)
    names, left_out = all_schedules(each) if schedules is None else (split_names(schedules), {})
    for name, reason in left_out.items():
        note(f"left out: {name}; {reason}", quiet or as_json)
    root = Path(os.environ.get("MLRS_CACHE") or "~/.cache/mlrs") / "compare" if cache is None else cache
    what = Comparison(
        tasks=each,
        schedules=with_always(names),
        seeds=seeds,
        tune="grid" if tune == "grid" else "none",
        cache=root.expanduser(),
        processes=jobs or default_jobs(task.run("fixed", 0).device for task in each),
        shard=part,
    )
    if dry_run:
        print_json(describe(what)) if as_json else print_table("would compare", describe(what))
        return
    if part[1] == 1:
        ready(out)
    try:
        with Watch(quiet or as_json, f"part {part[0]} of {part[1]}: " if part[1] > 1 else "") as watch:
            result = compare(what, watch.told)
    except KeyboardInterrupt:
        note("what has ended is kept: the same command goes on from there")
        raise
    if result is None:
        note(f"part {part[0]} of {part[1]} is done: the same command without --shard makes the report", quiet)
        return
    result = {"command": "mlrs " + shlex.join(sys.argv[1:]), **result}
    write_report(result, out)
    if as_json:
        print_json({"out": str(out), **{k: v for k, v in result.items() if k != "runs"}})
        return
    show(result)
    note(f"report, tables and pictures: {out}", quiet)


def split_names(text: str) -> list[str]:
    """References separated by commas; a part with `=` belongs to the reference before it, as in cosine:lr=0.1,final=0.01.

    >>> split_names("hd,knee:lr=0.1,warmup=0.1,./entry")
    ['hd', 'knee:lr=0.1,warmup=0.1', './entry']
    """
    names: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if names and re.match(r"[a-z_]+=", part):
            names[-1] += f",{part}"
        else:
            names.append(part)
    return names


def parse_shard(text: str | None) -> tuple[int, int]:
    """(i, n) of I/N; that of torchrun's variables where the option is not given."""
    if text is None:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UsageError(f"--shard {text}: write I/N with I from 0 to N − 1, as in 0/4")
    return int(found[1]), int(found[2])


class Watch(Bar):
    """A bar over the runs where stderr is a terminal, a line every twentieth of them elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool, part: str) -> None:
        super().__init__(quiet)
        self.part, self.shown = part, 0

    def told(self, done: int, total: int, job: Any) -> None:
        """One more run has ended."""
        words = f"{job.task}  {job.label}  seed {job.seed}"
        if self.bar:
            self.bar.update(self.task, total=total, completed=done, description=words)
        elif not self.quiet and (done == total or 20 * done // total != self.shown):
            self.shown = 20 * done // total
            self.console.print(f"{self.part}{done}/{total} runs, the last: {words}", soft_wrap=True, markup=False)


def show(result: dict[str, Any]) -> None:
    """The summary on stdout, and each schedule's regret on each task where the terminal is wide enough."""
    from mlrs_cli.report.comparison import summary_table, task_table

    title = f"{len(result['tasks'])} tasks, {len(result['seeds'])} seeds"
    tuned = result["tune"] == "grid"
    print_columns(
        f"regret against the best of the grid, {title}" if tuned else f"test error, {title}",
        summary_table(result, brief=not fits(summary_table(result))),
    )
    if fits(task_table(result)):
        print_columns("regret on each task (points)" if tuned else "test error on each task (%)", task_table(result))


def fits(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a table is no wider than stdout."""
    widths = [max(len(name), *(len(row[name]) for row in rows)) + 3 for name in rows[0]]
    return sum(widths) + 1 <= Console().width
