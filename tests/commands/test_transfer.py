"""`mlrs transfer` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.run import read_run
from mlrs_cli.zoo.bundled import bundled_folder

SMALL = "--model mlp --dataset digits --steps 4 --batch-size 32"
KEYS = {
    "schedule", "model", "dataset", "updates", "seconds", "images_per_second", "train_loss", "test_loss", "test_accuracy", "run",
}  # fmt: skip


def test_the_main_job(mlrs: Any) -> None:
    result = mlrs("transfer --schedule cifar10-resnet18 --model shufflenet_v2_x0_5 --dataset digits --steps 3 --json")
    assert result.code == 0, result.err
    assert result.err == ""
    document = result.json
    assert document.keys() >= KEYS
    assert document["schedule"].startswith("cifar10-resnet18@")
    assert 0 <= document["test_accuracy"] <= 1
    run = Path(document["run"])
    assert run.parent == Path("runs")
    names = {
        "config.json",
        "environment.json",
        "lr.csv",
        "metrics.csv",
        "last.pt",
        "best.pt",
        "summary.json",
        "curves.png",
    }
    assert {p.name for p in run.iterdir()} == names
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_results_on_stdout_progress_on_stderr(mlrs: Any) -> None:
    result = mlrs(f"transfer --schedule cosine {SMALL} --out run")
    assert result.code == 0
    for words in ("cosine", "mlp on digits", "test accuracy", "run/curves.png"):
        assert words in result.out
    assert "epoch" in result.err
    assert mlrs(f"transfer --schedule cosine {SMALL} --quiet").err == ""


def test_a_folder_is_a_schedule(mlrs: Any) -> None:
    path = bundled_folder() / "cifar10-resnet18"
    by_name = mlrs(f"transfer --schedule cifar10-resnet18 {SMALL} --json").json
    by_path = mlrs(f"transfer --schedule {path} {SMALL} --json").json
    rates = [read_run(Path(d["run"]))["updates"]["lr"] for d in (by_name, by_path)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1


def test_lr_scale_is_a_factor(mlrs: Any) -> None:
    mlrs(f"transfer --schedule fixed:lr=0.1 --lr-scale 0.5 {SMALL} --out run -q")
    assert read_run(Path("run"))["updates"]["lr"] == [0.05] * 4


def test_dry_run_runs_nothing_and_knows_what_the_schedule_was_learned_on(mlrs: Any, tmp_path: Path) -> None:
    import numpy as np

    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        count = 10 if name == "test_batch.bin" else 20
        records = np.zeros((count, 3073), np.uint8)
        records[:, 0] = np.arange(count) % 10
        path = tmp_path / "data" / "cifar-10-batches-bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        records.tofile(path)
    result = mlrs(
        "transfer --schedule cifar10-resnet18 --dry-run --json --limit-batches 1 --batch-size 4 --validation-size 10"
    )
    assert result.code == 0, result.err
    assert result.json["model"].startswith("resnet18")
    assert result.json["dataset"].startswith("cifar10, 90 train, 10 validation, 10 test")
    assert not Path("runs").exists()


def test_precedence_is_flag_variable_file_default(mlrs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run.toml").write_text(
        'schedule = "cosine"\nmodel = "mlp"\ndataset = "digits"\nbatch-size = 7\nepochs = 3\nseed = 5\n'
    )
    monkeypatch.setenv("MLRS_EPOCHS", "4")
    monkeypatch.setenv("MLRS_SEED", "6")
    result = mlrs("transfer --config run.toml --seed 8 --print-config")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert {"batch-size = 7", "epochs = 4", "seed = 8", "weight-decay = 0.0005"} <= set(lines)
    Path("again.toml").write_text(result.out)
    monkeypatch.delenv("MLRS_EPOCHS")
    monkeypatch.delenv("MLRS_SEED")
    assert mlrs("transfer --config again.toml --print-config").out == result.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--schedule cifar10-resnet81 --model mlp --dataset digits", 3, "did you mean 'cifar10-resnet18'"),
        ("--schedule cosine --model resnet9 --dataset digits", 3, "did you mean 'resnet8'"),
        ("--schedule cosine --model mlp --dataset digit", 3, "did you mean 'digits'"),
        ("--schedule cosine --dataset digits", 2, "--model is missing"),
        ("--model mlp --dataset digits", 2, "--schedule is missing"),
        ("--schedule cosine --model mlp --dataset digits --epochs 0", 2, "--epochs"),
        ("--schedule cosine --model mlp --dataset digits --epochs x", 2, "--epochs"),
        ("--schedule cosine --model mlp --dataset digits --optimizer sgdd", 2, "--optimizer"),
        ("--schedule cosine:peak=1 --model mlp --dataset digits", 2, "no setting 'peak'"),
        ("--schedule cosine --model mlp --dataset digits --validation-size 5000", 2, "cannot hold 5000"),
        ("--schedule cosine --model mlp --dataset digits --log trackio", 2, "pip install trackio"),
        ("--schedule cosine --model mlp --dataset digits --config missing.toml", 3, "no config file missing.toml"),
        ("--schedule cosine --model mlp --dataset digits --resume nowhere", 3, "no run in nowhere"),
        ("--schedule cosine --model mlp --dataset folder:nowhere", 3, "no folder nowhere"),
        ("--lrr 1", 2, "No such option"),
        ("--schedule cosine --model mlp --dataset digits --seed 99999999999999999999", 2, "--seed"),
        ("--schedule cosine --model mlp --dataset digits --lr-scale inf", 2, "--lr-scale"),
        ("--schedule fixed:lr=-1 --model mlp --dataset digits", 2, "lr must be"),
        ("--schedule fixed:lr=1,lr=2 --model mlp --dataset digits", 2, "twice"),
        ("--schedule cifar10-resnet18@ --model mlp --dataset digits", 2, "no version"),
        ("--resume a --out b", 2, "drop --out"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(mlrs: Any, words: str, code: int, message: str) -> None:
    result = mlrs(f"transfer {words}")
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not Path("runs").exists()


def test_of_epochs_and_steps_the_nearer_one_counts(mlrs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run.toml").write_text('schedule = "cosine"\nmodel = "mlp"\ndataset = "digits"\nsteps = 7\n')
    assert "steps = 7" in mlrs("transfer --config run.toml --print-config").out
    printed = mlrs("transfer --config run.toml --epochs 3 --print-config").out
    assert "epochs = 3" in printed
    assert "steps" not in printed
    monkeypatch.setenv("MLRS_STEPS", "9")
    assert "steps = 9" in mlrs("transfer --config run.toml --print-config").out
    assert mlrs("transfer --config run.toml --epochs 3 --steps 4").code == 2


def test_keys_of_a_file_are_the_options_names(mlrs: Any) -> None:
    Path("run.toml").write_text("batchsize = 3\n")
    assert "did you mean 'batch-size'" in mlrs("transfer --config run.toml").err
    Path("run.toml").write_text('schedule = "cosine"\nmodel = "mlp"\ndataset = "digits"\nsteps = 2\njson = true\n')
    assert mlrs("transfer --config run.toml").json["updates"] == 2


def test_a_stray_folder_does_not_stop_resume_auto(mlrs: Any) -> None:
    for number, text in enumerate(("[]", "{", "{}")):
        Path(f"runs/odd{number}").mkdir(parents=True)
        Path(f"runs/odd{number}/config.json").write_text(text)
    assert mlrs(f"transfer --schedule cosine {SMALL} --resume auto -q").code == 0


def test_an_unknown_key_of_a_file_is_an_error(mlrs: Any) -> None:
    Path("run.toml").write_text("epoch = 3\n")
    result = mlrs("transfer --config run.toml")
    assert result.code == 2
    assert "did you mean 'epochs'" in result.err


def test_missing_data_says_what_to_do(mlrs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    result = mlrs("transfer --schedule cosine --model mlp --dataset cifar100")
    assert result.code == 3
    assert "cifar100" in result.err.lower()
    assert "--data-dir" in result.err


def test_a_dry_run_downloads_nothing(mlrs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*args: object, **kwargs: object) -> None:
        raise AssertionError("it tried to download")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetched)
    monkeypatch.setattr("torchvision.datasets.food101.download_and_extract_archive", fetched)
    for name in ("cifar100", "food101"):
        result = mlrs(f"transfer --schedule cosine --model mlp --dataset {name} --dry-run")
        assert result.code == 3
        assert "a run would download it" in result.err


def test_divergence_is_exit_code_5_and_says_where(mlrs: Any) -> None:
    result = mlrs(f"transfer --schedule fixed:lr=1e20 {SMALL} --out run")
    assert result.code == 5
    assert "the training loss of update" in result.err
    run = read_run(Path("run"))
    assert run["summary"]["status"] == "diverged"
    assert run["updates"]["step"]


def test_resume_refuses_other_settings_with_the_difference(mlrs: Any) -> None:
    mlrs(f"transfer --schedule cosine {SMALL} --out run -q")
    refused = mlrs("transfer --resume run --model lenet5 --seed 3")
    assert refused.code == 2
    assert "model: mlp → lenet5; seed: 0 → 3" in refused.err
    again = mlrs("transfer --resume run --json")
    assert again.code == 0
    assert again.json["updates"] == 4
    assert mlrs(f"transfer --schedule cosine {SMALL} --out run").code == 2
    assert mlrs("meta-train --resume run --name x").code == 2


def test_resume_takes_the_schedule_said_again(mlrs: Any) -> None:
    mlrs(f"transfer --schedule cifar10-resnet18 {SMALL} --out run -q")
    assert mlrs("transfer --resume run --schedule cifar10-resnet18 -q").code == 0


def test_resume_refuses_a_method_that_changed(mlrs: Any) -> None:
    import shutil

    shutil.copytree(bundled_folder() / "cifar10-resnet18", "mine")
    mlrs(f"transfer --schedule ./mine {SMALL} --out run -q")
    text = Path("mine/config.json").read_text()
    Path("mine/config.json").write_text(text.replace('"measured": "once"', '"measured": "every-stage"'))
    assert "no longer the one" in mlrs("transfer --resume run").err


def test_odd_paths_are_shown_as_they_are(mlrs: Any) -> None:
    result = mlrs(f"transfer --schedule cosine {SMALL} --out r[/a] -q")
    assert result.code == 0, result.err
    assert "r[/a]" in result.out


def test_resume_refuses_a_schedule_that_changed(mlrs: Any) -> None:
    import shutil

    shutil.copytree(bundled_folder() / "cifar10-resnet18", "mine")
    mlrs(f"transfer --schedule ./mine {SMALL} --out run -q")
    mlrs("meta-train --model mlp --dataset digits --steps 3 --name cifar10-resnet18 --out learned -q")
    shutil.rmtree("mine")
    shutil.copytree("learned/cifar10-resnet18", "mine")
    refused = mlrs("transfer --resume run")
    assert refused.code == 2
    assert "no longer the one" in refused.err


def test_ctrl_c_saves_and_says_how_to_go_on() -> None:
    words = [
        "--schedule",
        "cosine",
        "--model",
        "resnet8",
        "--dataset",
        "digits",
        "--epochs",
        "500",
        "--batch-size",
        "64",
    ]
    command = [sys.executable, "-m", "mlrs_cli", "transfer"]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if list(Path("runs").glob("*/last.pt")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    run = next(Path("runs").iterdir())
    assert f"continue it: mlrs transfer --resume {run}" in err
    done = json.loads((run / "summary.json").read_text())["updates"]
    # `auto` finds it: the same settings, not finished
    auto = subprocess.Popen([*command, *words, "--resume", "auto"], stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if len((run / "lr.csv").read_text().splitlines()) > done + 60:
            break
        time.sleep(0.1)
    auto.send_signal(signal.SIGTERM)
    auto.communicate(timeout=60)
    assert auto.returncode == 130
    assert len(list(Path("runs").iterdir())) == 1
    steps = read_run(run)["updates"]["step"]
    assert steps == [float(i + 1) for i in range(len(steps))]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_every_update(mlrs: Any) -> None:
    pytest.importorskip("tensorboard", reason="an optional package")
    result = mlrs(f"transfer --schedule cosine {SMALL} --log tensorboard --out run -q")
    assert result.code == 0, result.err
    assert list(Path("run").rglob("events.out.tfevents.*"))


def test_two_processes_agree_on_every_rate() -> None:
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1"}
    words = [
        "--schedule",
        "cifar10-resnet18",
        "--model",
        "resnet8",
        "--dataset",
        "digits",
        "--steps",
        "6",
        "--batch-size",
        "16",
        "--device",
        "cpu",
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29651",
        "-m",
        "mlrs_cli",
    ]
    finished = subprocess.run(
        [*command, "transfer", *words, "--out", "two", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout[finished.stdout.index("{\n") :])  # gloo of torch 2.9 greets on stdout
    assert document["updates"] == 6
    alone = [sys.executable, "-m", "mlrs_cli", "transfer", *words, "--out", "one", "--json"]
    alone[alone.index("16")] = "32"
    subprocess.run(alone, check=True, capture_output=True, timeout=200)
    rates = [read_run(Path(p))["updates"]["lr"] for p in ("one", "two")]
    # The same images in every update: as the rates follow the mean loss, they agree but for BatchNorm's smaller batches.
    assert rates[0] == pytest.approx(rates[1], rel=0.02)
    losses = [read_run(Path(p))["updates"]["loss"] for p in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
