"""Comparisons from the command line on digits: cached, continued, divided, deterministic."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.compare import runs
from mlrs_cli.compare.compare import all_schedules
from mlrs_cli.compare.runs import execute, make_job, outcome
from mlrs_cli.compare.tasks import CompareTask, load_tasks
from mlrs_cli.errors import MLRSError

TASK = '[tiny]\nmodel = "mlp"\ndataset = "digits"\nbatch-size = 32\nvalidation-size = 200\nsteps = 10\n'


@pytest.fixture
def tiny(tmp_path: Path) -> CompareTask:
    (tmp_path / "tiny.toml").write_text(TASK)
    return load_tasks(str(tmp_path / "tiny.toml"))[0]


def rows_of(path: Path) -> list[dict[str, str]]:
    """Every run of a report, without what depends on the clock."""
    rows = list(csv.DictReader((path / "results.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "update_seconds"} for row in rows]


def test_a_key_holds_all_that_decides_a_result(
    tiny: CompareTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(task: CompareTask = tiny, schedule: str = "cosine", seed: int = 0) -> Path:
        return make_job(task, schedule, seed, tmp_path).path

    longer = CompareTask("tiny", {**tiny.settings, "steps": 11})
    adam = CompareTask("tiny", {**tiny.settings, "optimizer": "adam"})
    elsewhere = CompareTask("other name", {**tiny.settings, "device": "cpu", "data_dir": "/elsewhere"})
    places = [place(), place(seed=1), place(schedule="hd"), place(longer), place(adam), place(schedule="cosine:lr=0.2")]
    assert len(set(places)) == len(places)
    assert place(elsewhere) == place()
    monkeypatch.setattr(runs, "code_version", lambda: "another")
    assert place() not in places


def test_an_entry_is_known_by_its_content(tiny: CompareTask, tmp_path: Path, mlrs: Callable[..., Any]) -> None:
    words = "meta-train --model mlp --dataset digits --steps 4 --meta-every 2 --meta-size 50 -q --name mine --out run"
    assert mlrs(words).code == 0
    before = make_job(tiny, "./run/mine", 0, tmp_path)
    (tmp_path / "run" / "mine").rename(tmp_path / "moved")
    assert make_job(tiny, "./moved", 0, tmp_path).path == before.path


def test_entries_go_by_their_name_where_no_other_has_it(tiny: CompareTask) -> None:
    from mlrs_cli.compare.compare import labels

    assert labels(["./a/mine", "./b/other"]) == {"./a/mine": "mine", "./b/other": "other"}
    assert labels(["./a/mine", "./b/mine", "hd"]) == {"./a/mine": "./a/mine", "./b/mine": "./b/mine", "hd": "hd"}


def test_a_folder_of_images_is_known_by_its_place_and_content(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(TASK.replace('"digits"', '"folder:images"'))
    (task,) = load_tasks(str(tmp_path / "own.toml"))
    assert task.settings["dataset"] == f"folder:{tmp_path / 'images'}"
    before = runs.images_in(str(tmp_path))
    runs.images_in.cache_clear()
    (tmp_path / "more.png").write_text("another")
    assert runs.images_in(str(tmp_path)) != before


def test_same_seed_same_start_and_data_whatever_the_schedule(tiny: CompareTask, tmp_path: Path) -> None:
    firsts = {}
    for schedule in ("cosine", "hd", "lrtuner", "mlr-scalar"):
        for seed in (0, 1):
            job = make_job(tiny, schedule, seed, tmp_path)
            execute(job)
            firsts[schedule, seed] = (job.path / "lr.csv").read_text().splitlines()[1].split(",")[1]
            assert not (job.path / "last.pt").exists()
    assert len({firsts[s, 0] for s in ("cosine", "hd", "lrtuner", "mlr-scalar")}) == 1
    assert firsts["cosine", 0] != firsts["cosine", 1]


def test_a_run_that_was_stopped_goes_on(tiny: CompareTask, tmp_path: Path) -> None:
    whole, half = make_job(tiny, "hd", 0, tmp_path / "a"), make_job(tiny, "hd", 0, tmp_path / "b")
    execute(whole)
    execute(half)
    (half.path / "summary.json").unlink()  # killed between the last checkpoint and the end
    assert outcome(half) is None
    execute(half)
    alike = ("test_accuracy", "test_loss", "updates", "curve")
    assert [outcome(half)[k] for k in alike] == [outcome(whole)[k] for k in alike]  # type: ignore[index]
    (half.path / "config.json").unlink()  # killed before it began
    execute(half)
    assert [outcome(half)[k] for k in alike] == [outcome(whole)[k] for k in alike]  # type: ignore[index]


def test_divergence_is_a_result(tiny: CompareTask, tmp_path: Path) -> None:
    job = make_job(tiny, "fixed:lr=1e30", 0, tmp_path)
    execute(job)
    result = outcome(job)
    assert result
    assert (result["status"], result["num_classes"]) == ("diverged", 10)


def test_a_comparison_from_the_command_line(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TASK)
    command = "compare --tasks tiny.toml --seeds 2 --cache kept"
    done = mlrs(f"{command} --schedules lrtuner,fixed:lr=1e30 --out one --jobs 2")
    assert done.code == 0, done.err
    assert "regret" in done.out
    report = json.loads((tmp_path / "one" / "results.json").read_text())
    names = {row["schedule"] for row in report["summary"]}
    assert names == {"cosine", "linear", "fixed", "lrtuner", "fixed:lr=1e30"}
    (task,) = report["tasks"]
    assert task["tuned"]["tried"] == 28
    rows = rows_of(tmp_path / "one")
    grid = [row for row in rows if row["role"] == "grid"]
    assert len([row for row in rows if row["role"] == "schedule"]) == 5 * 2
    assert len(grid) == 28 + 4  # and the best four on the second seed
    check_the_oracle(task, grid)
    wild = next(row for row in report["rows"] if row["schedule"] == "fixed:lr=1e30")
    assert (wild["diverged"], wild["error"]) == (2, 90.0)
    lrtuner = next(row for row in report["summary"] if row["schedule"] == "lrtuner")
    assert lrtuner["forward"] == pytest.approx(8 / 10)  # one tuning in ten updates: four lengths on two batches
    assert all((tmp_path / "one" / f).stat().st_size > 5000 for f in ("regret.png", "curves.png"))
    assert "| lrtuner (reconstruction) |" in (tmp_path / "one" / "README.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("summary.json")}
    more = mlrs(f"{command} --schedules lrtuner,fixed:lr=1e30,hd --out two --json")
    assert more.code == 0, more.err
    assert more.json["out"] == "two"
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("summary.json")}
    assert before.items() <= after.items()  # nothing was run again
    assert len(after) == len(before) + 2
    again = [row for row in rows_of(tmp_path / "two") if row["schedule"] != "hd"]
    assert again == rows

    fresh = mlrs(f"{command} --schedules lrtuner,fixed:lr=1e30 --out three --cache other --jobs 2 --shard 0/2 -q")
    assert (fresh.code, fresh.out) == (0, "")
    assert not (tmp_path / "three").exists()
    mlrs(f"{command} --schedules lrtuner,fixed:lr=1e30 --out three --cache other --jobs 2 --shard 1/2 -q")
    parts = len(list((tmp_path / "other").rglob("summary.json")))
    assert parts >= 28 + 4 * 2  # all but finalists; cosine and its grid twin at the usual rate are two runs
    merged = mlrs(f"{command} --schedules lrtuner,fixed:lr=1e30 --out three --cache other --jobs 2 -q")
    assert merged.code == 0, merged.err
    assert rows_of(tmp_path / "three") == rows  # as many threads a run: the same numbers, bit for bit


def check_the_oracle(task: dict[str, Any], grid: list[dict[str, str]]) -> None:
    """The tuned rival has the best mean validation accuracy of the finalists, and they that of the first seed."""
    first = sorted((row for row in grid if row["seed"] == "0"), key=lambda row: -float(row["validation_accuracy"] or 0))
    finalists = {row["schedule"] for row in grid if row["seed"] == "1"}
    assert min(float(r["validation_accuracy"]) for r in first if r["schedule"] in finalists) >= max(
        float(r["validation_accuracy"] or 0) for r in first if r["schedule"] not in finalists
    )
    means = {
        name: sum(float(row["validation_accuracy"]) for row in grid if row["schedule"] == name) / 2
        for name in finalists
    }
    assert means[task["tuned"]["schedule"]] == max(means.values())
    errors = [float(row["test_error"]) for row in grid if row["schedule"] == task["tuned"]["schedule"]]
    assert task["tuned"]["errors"] == pytest.approx(errors, abs=1e-4)


def test_a_dry_run_counts(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TASK)
    facts = mlrs(
        "compare --tasks tiny.toml --schedules cosine,hd --seeds 3 --cache kept --out out --dry-run --json"
    ).json
    assert (facts["runs"], facts["kept"]) == ("40, then up to 8 of the grid's best", 0)
    assert not (tmp_path / "out").exists()


def test_without_tuning_there_is_no_regret(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TASK)
    done = mlrs("compare --tasks tiny.toml --schedules cosine --seeds 1 --tune none --cache kept --out out --jobs 1")
    assert done.code == 0, done.err
    assert "test error" in done.out
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(row["regret"] is None for row in report["rows"])
    assert "tuned" not in report["tasks"][0]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("--tune all", 2, "--tune all: write grid or none"),
        ("--shard 2/2", 2, "--shard 2/2: write I/N"),
        ("--schedules cosin", 3, "no schedule 'cosin': did you mean 'cosine'"),
        ("--schedules cosine:lr=-1", 2, "lr must be"),
        ("--tasks nothing", 3, "no preset 'nothing'"),
        ("--seeds 0", 2, ""),
    ],
)
def test_a_call_that_is_off_is_one_sentence(mlrs: Callable[..., Any], words: str, code: int, sentence: str) -> None:
    tasks = "" if "--tasks" in words else "--tasks smoke "
    done = mlrs(f"compare {tasks}{words} --out out --cache kept")
    assert done.code == code
    assert sentence in done.err
    assert not Path("kept").exists()


def test_a_run_that_fails_is_named(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "far.toml").write_text(TASK.replace("digits", "folder:nowhere"))
    done = mlrs("compare --tasks far.toml --schedules cosine --seeds 1 --tune none --cache kept --out out")
    assert done.code == 3
    assert "nowhere" in done.err
    (tmp_path / "odd.toml").write_text(TASK.replace('"mlp"', '"vgg11"') + "image-size = 8\n")
    done = mlrs("compare --tasks odd.toml --schedules cosine --seeds 1 --tune none --cache kept --out out")
    assert done.code == 2
    assert "schedule '" in done.err
    assert "on task 'tiny', seed 0: model 'vgg11' cannot take" in done.err


@pytest.mark.parametrize("how", ["the terminal", "the parent alone", "every process"])
def test_it_stops_and_goes_on(tmp_path: Path, how: str) -> None:
    (tmp_path / "long.toml").write_text(TASK.replace("steps = 10", "steps = 20000"))
    words = "compare --tasks long.toml --schedules lrtuner,hd --seeds 2 --tune none --cache kept --out out --jobs 2"
    command = [sys.executable, "-m", "mlrs_cli", *words.split()]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "kept").rglob("lr.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # into the training
    if how == "the terminal":
        os.killpg(started.pid, signal.SIGINT)
    elif how == "the parent alone":
        started.send_signal(signal.SIGTERM)
    else:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        for process in (*map(int, children), started.pid):
            os.kill(process, signal.SIGTERM)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    begun = [path.parent for path in (tmp_path / "kept").rglob("lr.csv")]
    assert len(begun) == 2  # no other run was begun
    if how != "every process":  # there the second signal ends a run at once
        for run in begun:
            assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
            assert (run / "last.pt").exists()


def test_torchrun_divides_the_runs(tmp_path: Path, mlrs: Callable[..., Any]) -> None:
    (tmp_path / "tiny.toml").write_text(TASK)
    command = "compare --tasks tiny.toml --schedules cosine --seeds 1 --tune none --cache kept --out out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mlrs_cli"]
    done = subprocess.run([*launch, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("summary.json")}
    assert len(ended) == 3
    assert not (tmp_path / "out").exists()
    assert mlrs(command).code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("summary.json")} == ended


def test_processes_keep_to_their_cores(tmp_path: Path) -> None:
    script = (
        "import multiprocessing, os\n"
        "from mlrs_cli.compare.pool import settle\n"
        "if __name__ == '__main__':\n"
        "    import torch\n"
        "    os.environ['WORLD_SIZE'] = '4'\n"
        "    queue = multiprocessing.Queue(); core = min(os.sched_getaffinity(0)); queue.put([core])\n"
        "    settle(queue, multiprocessing.Event())\n"
        "    print(os.sched_getaffinity(0) == {core}, torch.get_num_threads(), os.environ.get('WORLD_SIZE'))\n"
    )
    (tmp_path / "settle.py").write_text(script)
    done = subprocess.run([sys.executable, "settle.py"], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "1", "None"], done.stderr


def test_a_run_is_kept_under_what_it_was_made_with_or_not_at_all(
    tiny: CompareTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tiny, "cosine", 0, tmp_path)
    monkeypatch.setattr(runs, "code_version", lambda: "edited meanwhile")
    with pytest.raises(MLRSError, match="changed after the comparison had begun"):
        execute(job)
    assert not job.path.exists()


def test_by_default_all_are_compared_that_the_tasks_can_take(tiny: CompareTask) -> None:
    names, left_out = all_schedules([tiny])
    assert {"cifar10-resnet18", "rtho", "marthe", "hd", "mlr-snet", "prodigy"} <= set(names)
    assert not left_out
    clipped = CompareTask("clipped", {**tiny.settings, "grad_clip": 1.0})
    fewer, left_out = all_schedules([tiny, clipped])
    assert set(names) - set(fewer) == set(left_out) == {"rtho", "rtho:lr=usual", "marthe"}
    assert "--grad-clip" in left_out["rtho"]


def test_the_folder_of_the_report_is_seen_to_before_the_runs(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TASK)
    (tmp_path / "file").write_text("")
    done = mlrs("compare --tasks tiny.toml --schedules cosine --seeds 1 --tune none --cache kept --out file")
    assert done.code == 2
    assert "--out file cannot be made a folder" in done.err
    assert not (tmp_path / "kept").exists()


def test_odd_names_are_shown_as_they_are(mlrs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(TASK.replace("[tiny]", '["[b]a $x_{$ [/i]"]'))
    done = mlrs("compare --tasks odd.toml --schedules cosine --seeds 1 --tune none --cache kept --out out --jobs 2")
    assert done.code == 0, done.err
    assert "[b]a $x_{$ [/i]" in done.out


def test_an_ended_run_without_a_result_is_an_error(tiny: CompareTask, tmp_path: Path) -> None:
    from mlrs_cli.compare.compare import result_of

    with pytest.raises(MLRSError, match="has no result"):
        result_of(make_job(tiny, "cosine", 0, tmp_path))
