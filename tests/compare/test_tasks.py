"""Task files: what ships, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrs_cli.compare.grid import grid, on_edge
from mlrs_cli.compare.tasks import load_tasks, presets
from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.schedules import parse_named


@pytest.mark.parametrize("name", presets())
def test_presets_load_and_hold_data_out(name: str) -> None:
    for task in load_tasks(name):
        settings = task.run("cosine", 1)
        assert settings.seed == 1
        assert settings.validation_size
        assert settings.evaluate_every


def test_small_differs_in_all_that_the_report_says() -> None:
    runs = [task.run("fixed", 0) for task in load_tasks("small")]
    assert len(runs) >= 8
    assert len({run.dataset for run in runs}) >= 4
    assert {"mlp", "lenet5", "resnet8-slim", "vit-mini"} <= {run.model for run in runs}
    assert {run.optimizer for run in runs} == {"sgd", "adam", "adamw"}
    assert {run.momentum for run in runs} >= {0.0, 0.9}
    assert len({run.steps for run in runs}) >= 5


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[mine]\nmodel = "mlp"\ndataset = "digits"\nbatch-size = 16\nepochs = 2\n')
    (task,) = load_tasks(str(tmp_path / "mine.toml"), device="cpu")
    run = task.run("linear", 3)
    assert (task.name, run.batch_size, run.epochs, run.device, run.evaluate_every) == ("mine", 16, 2, "cpu", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no task"),
        ("model = 1", "'model' is no table"),
        ("[a]\nmodel = 'mlp'", "task 'a': --dataset is missing"),
        ("[a]\nmodel = 'mlp'\ndataset = 'digits'\nseed = 3", "task 'a' sets 'seed', which no task has"),
        ("[a]\nmodel = 'mlp'\ndataset = 'digits'\nmomentun = 0.9", "did you mean 'momentum'"),
        ("[a]\nmodel = 'mlp'\ndataset = 'digits'\nsteps = 3\nepochs = 1", "both steps and epochs"),
        ("[a]\nmodel = 'mlp'\ndataset = 'digits'\nsteps = -3", "--steps: input should be greater"),
        ("[a]\nmodel = 'mlp'\ndataset = 'digits'\nvalidation-size = 0", "holds nothing out"),
        ("[a\n", "cannot be read"),
    ],
)
def test_a_file_that_is_off_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "off.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_tasks(str(path))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="no preset 'smal': did you mean 'small'"):
        load_tasks("smal")
    with pytest.raises(NotFoundError, match=r"no file nowhere\.toml"):
        load_tasks("nowhere.toml")


@pytest.mark.parametrize(("optimizer", "usual"), [("sgd", 0.1), ("adam", 1e-3), ("adamw", 1e-3)])
def test_the_grid_spans_three_decades_in_four_shapes(optimizer: str, usual: float) -> None:
    schedules = [parse_named(reference, optimizer) for reference in grid(optimizer)]
    rates = sorted({schedule.peak for schedule in schedules})  # type: ignore[attr-defined]
    assert len(schedules) == 28
    assert {type(schedule).__name__ for schedule in schedules} == {"Cosine", "WarmupLinear", "MultiStep", "Knee"}
    assert len(rates) == 7
    assert rates[-1] / rates[0] == pytest.approx(1000, rel=1e-3)
    assert rates[3] == usual
    edges = [reference for reference in grid(optimizer) if on_edge(reference, optimizer)]
    assert len(edges) == 8
