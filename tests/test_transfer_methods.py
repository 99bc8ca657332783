"""`mlrs transfer` under each method that is not an entry, the factor on a learned one's rates, and when a run is measured."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from mlrs_cli.errors import DivergedError, UsageError
from mlrs_cli.optimizers import PACKAGES
from mlrs_cli.plan import Plan
from mlrs_cli.run import read_run
from mlrs_cli.schedules import parse_named
from mlrs_cli.schedules.conversion import rate_factor
from mlrs_cli.schedules.gamma import gamma
from mlrs_cli.schedules.named import LEARNED_ONLINE, TUNERS
from mlrs_cli.schedules.parameter_free import PARAMETER_FREE
from mlrs_cli.tasks.task import build_task
from mlrs_cli.transfer import find_schedule, transfer
from mlrs_cli.zoo.bundled import bundled_folder

SMALL = "--model mlp --dataset digits --steps 4 --batch-size 32 --validation-size 64"
METHODS = [*TUNERS, *PARAMETER_FREE, *LEARNED_ONLINE]


def rates(path: str = "run") -> list[float]:
    column: list[float] = read_run(Path(path))["updates"]["lr"]
    return column


@pytest.fixture
def transferred(settings: Any) -> Any:
    """Maker of short runs: what `mlrs transfer` does, without its picture. Returns the summary."""

    def make(schedule: str, out: str = "run", **changes: Any) -> dict[str, Any]:
        small = {"steps": 4, "validation_size": 64, "schedule": schedule}
        return transfer(Plan(settings(**(small | changes)), Path(out), False))

    return make


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(mlrs: Any, name: str) -> None:
    if name in PARAMETER_FREE:
        pytest.importorskip(PACKAGES[name], reason="an optional package")
    result = mlrs(f"transfer --schedule {name} {SMALL} --out run --json")
    assert result.code == 0, result.err
    assert result.err == ""
    assert result.json["schedule"] == name
    assert result.json["updates"] == 4
    assert result.json.keys() >= {"extra_forward", "extra_backward", "test_accuracy"}
    assert len(rates()) == 4
    assert all(rate > 0 for rate in rates())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_with_adamw(transferred: Any, name: str) -> None:
    if name in PARAMETER_FREE:
        pytest.importorskip(PACKAGES[name], reason="an optional package")
    assert transferred(name, optimizer="adamw")["status"] == "finished"
    assert all(rate > 0 for rate in rates())


def test_a_finished_run_of_a_method_resumes(mlrs: Any, transferred: Any) -> None:
    before = transferred("mlr-snet")
    again = mlrs("transfer --resume run --json")
    assert again.code == 0, again.err
    assert again.json["test_loss"] == before["test_loss"]


def test_a_dry_run_of_a_method_names_it(mlrs: Any) -> None:
    result = mlrs(f"transfer --schedule hd:beta=0.01 {SMALL} --dry-run --json")
    assert result.code == 0, result.err
    assert result.json["schedule"] == "hd:beta=0.01"
    assert "rates" not in result.json
    assert not Path("runs").exists()


def test_settings_of_a_method_reach_it(transferred: Any) -> None:
    transferred("hd:lr=0.25,beta=1e-9")
    assert rates() == pytest.approx([0.25] * 4, rel=1e-6)


@pytest.mark.parametrize("name", TUNERS)
def test_a_tuner_has_no_use_for_a_factor(mlrs: Any, name: str) -> None:
    result = mlrs(f"transfer --schedule {name} {SMALL} --lr-scale 0.5")
    assert result.code == 2
    assert f"'{name}' finds its own rate, which --lr-scale 0.5 would undo" in result.err
    assert not Path("runs").exists()
    assert mlrs(f"transfer --schedule {name} {SMALL} --lr-scale 1 --dry-run").code == 0


@pytest.mark.parametrize(
    ("how", "factor"),
    [({"momentum": 0.9}, 0.1), ({"momentum": 0.5}, 0.5), ({"optimizer": "adam"}, 0.01), ({"optimizer": "adamw"}, 0.01)],
    ids=["momentum 0.9", "momentum 0.5", "adam", "adamw"],
)
@pytest.mark.parametrize("name", ["cifar10-resnet18", "mlr-snet", "mlr-scalar"])
def test_learned_rates_are_fitted_to_the_optimizer(transferred: Any, name: str, how: Any, factor: float) -> None:
    transferred(name, "plain", steps=1)
    transferred(name, **how, steps=1)
    # the first meta-update looks ahead with another rate, but Adam's first step is as long whatever the slope
    assert rates()[0] == pytest.approx(factor * rates("plain")[0], rel=1e-9 if name == "cifar10-resnet18" else 1e-3)


def test_the_fit_of_a_learned_entry_is_said_in_a_dry_run(mlrs: Any) -> None:
    words = f"transfer --schedule cifar10-resnet18 {SMALL} --dry-run --json"
    assert "rates" not in mlrs(words).json
    assert mlrs(f"{words} --momentum 0.9").json["rates"].endswith("times 0.1")
    assert mlrs(f"{words} --optimizer adam").json["rates"].endswith("times 0.01")


@pytest.mark.parametrize("how", [{"momentum": 0.9}, {"optimizer": "adam"}])
def test_hand_made_rates_are_what_was_said(transferred: Any, how: dict[str, Any]) -> None:
    transferred("fixed:lr=0.05", **how)
    assert rates() == [0.05] * 4


def test_an_entry_learned_with_momentum_keeps_its_rates_under_momentum(mlrs: Any, settings: Any) -> None:
    mlrs(f"meta-train {SMALL.replace('--validation-size', '--meta-size')} --momentum 0.9 --name mine --out learned -q")
    factors = {
        (optimizer, momentum): find_schedule(
            settings(schedule="./learned/mine", optimizer=optimizer, momentum=momentum)
        )[1]
        for optimizer, momentum in (("sgd", 0.9), ("sgd", 0.0), ("adam", 0.0))
    }
    assert factors == pytest.approx({("sgd", 0.9): 1.0, ("sgd", 0.0): 10.0, ("adam", 0.0): 0.01})


def test_factors_there_and_back_are_one() -> None:
    kinds = [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)]
    for one in kinds:
        assert rate_factor(*one, *one) == pytest.approx(1)
        for other in kinds:
            if (one[0] == "sgd") == (other[0] == "sgd"):
                assert rate_factor(*one, *other) * rate_factor(*other, *one) == pytest.approx(1)


def test_the_scalar_starts_at_half_of_gamma(transferred: Any) -> None:
    transferred("mlr-scalar:meta_lr=1e-9")
    first = read_run(Path("run"))["updates"]["loss"][0]
    assert rates() == pytest.approx([gamma(first, 10) / 2] * 4, rel=1e-6)


@pytest.mark.parametrize("name", [*TUNERS, *LEARNED_ONLINE])
def test_what_needs_a_model_cannot_be_drawn_or_exported(mlrs: Any, name: str) -> None:
    for words in (f"plot {name} --output x.png", f"export {name} --format csv"):
        result = mlrs(words)
        assert result.code == 2, words
        assert "mlrs transfer" in result.err
        assert "Traceback" not in result.err
    assert not list(Path().glob("*.*"))


def test_what_learns_online_is_no_named_schedule_elsewhere(mlrs: Any) -> None:
    with pytest.raises(Exception, match="no schedule 'mlr-snet'"):
        parse_named("mlr-snet")
    for text in ("mlr-snet:meta_updates=0", "mlr-scalar:meta_lr=0", "mlr-snet:meta_updates=1.5", "mlr-snet:learns=1"):
        result = mlrs(f"transfer --schedule {text} {SMALL}")
        assert result.code == 2, text
        assert "Traceback" not in result.err


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_evaluate_every_measures_validation_there_and_the_test_split_at_the_end(mlrs: Any, transferred: Any) -> None:
    words = "transfer --schedule cosine --model mlp --dataset digits --steps 10 --batch-size 32 --limit-batches 5"
    assert mlrs(f"{words} --evaluate-every 3 --out run -q").code == 0
    measured = rows(Path("run/metrics.csv"))
    assert [row["step"] for row in measured] == ["3", "6", "9", "10"]
    assert all(row["validation_accuracy"] and row["validation_loss"] for row in measured)
    assert [bool(row["test_accuracy"]) for row in measured] == [False, False, False, True]
    assert [bool(row["test_loss"]) for row in measured] == [False, False, False, True]
    assert float(measured[0]["epoch"]) == 3 / 5
    losses = read_run(Path("run"))["updates"]["loss"]
    assert float(measured[1]["train_loss"]) == pytest.approx(sum(losses[3:6]) / 3)
    transferred("cosine", "by-epoch", steps=10, limit_batches=5, validation_size=None)
    by_epoch = rows(Path("by-epoch/metrics.csv"))
    assert [row["step"] for row in by_epoch] == ["5", "10"]
    assert by_epoch[-1]["test_loss"] == measured[-1]["test_loss"]
    assert rates() == rates("by-epoch")


def test_evaluate_every_leaves_the_test_split_alone_where_nothing_is_held_out(transferred: Any) -> None:
    transferred("cosine", steps=6, validation_size=0, evaluate_every=2)
    measured = rows(Path("run/metrics.csv"))
    assert [row["step"] for row in measured] == ["2", "4", "6"]
    assert [bool(row["test_accuracy"]) for row in measured] == [False, False, True]


def test_a_run_measured_often_can_be_drawn(mlrs: Any, transferred: Any) -> None:
    transferred("rtho", steps=6, evaluate_every=2)
    assert mlrs("plot run --output x.png").code == 0
    assert Path("x.png").is_file()


def test_entries_and_methods_share_one_space_of_names() -> None:
    shipped = {path.name for path in bundled_folder().iterdir()}
    assert not shipped & set(METHODS)


def test_imported_weights_count_as_learned_with_plain_sgd(settings: Any) -> None:
    for momentum, factor in ((0.0, 1.0), (0.9, 0.1)):
        chosen = settings(schedule="mlr-snet", momentum=momentum)
        resolved, outside = find_schedule(chosen)
        assert outside == 1
        assert resolved.schedule.scale == pytest.approx(factor)
    with pytest.raises(UsageError, match="drop the flag"):
        find_schedule(settings(schedule="hd", lr_scale=2.0))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rtho --grad-clip 1", "'rtho' differentiates through updates"),
        ("marthe --grad-clip 1", "'marthe' differentiates through updates"),
        ("rtho --validation-size 0", "--validation-size is 0"),
        ("mlr-snet --validation-size 0", "--validation-size is 0"),
        ("mlr-snet:scale=-1", "no setting 'scale'"),
        ("mlr-scalar:seed=7", "no setting 'seed'"),
        ("mlr-scalar:meta_lr=nan", "meta_updates and meta_lr must be finite"),
    ],
)
def test_what_a_method_cannot_do_is_said_before_a_folder_is_made(mlrs: Any, words: str, sentence: str) -> None:
    done = mlrs(f"transfer --model mlp --dataset digits --steps 3 --out run --schedule {words}")
    assert (done.code, Path("run").exists()) == (2, False)
    assert sentence in done.err


def test_what_a_tuner_cost_is_said(mlrs: Any) -> None:
    words = f"transfer {SMALL} -q --out"
    assert "2.00 forward and 0.00 backward an update" in mlrs(f"{words} tuned --schedule lrtuner").out
    assert "extra passes" not in mlrs(f"{words} plain --schedule cosine").out


def test_lr_scale_reaches_what_is_learned_online(settings: Any) -> None:
    resolved, factor = find_schedule(settings(schedule="mlr-scalar", lr_scale=0.5, momentum=0.9))
    assert factor == 1
    assert resolved.schedule.scale == pytest.approx(0.05)  # type: ignore[attr-defined]


def test_a_rate_beyond_what_a_weight_can_hold_is_divergence(transferred: Any) -> None:
    with pytest.raises(DivergedError, match=r"the learning rate of update 2 is .*e\+"):
        transferred("hd:beta=1e300")


@pytest.mark.parametrize("name", TUNERS)
def test_gradients_of_fp16_are_refused(settings: Any, name: str) -> None:
    with pytest.raises(UsageError, match="fp16 spoils"):
        find_schedule(settings(schedule=name, precision="fp16"))


@pytest.mark.parametrize("name", ["rtho", "marthe", *LEARNED_ONLINE])
def test_a_split_without_an_image_is_refused_before_the_run(
    transferred: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    empty = build_task(settings(validation_size=0))
    monkeypatch.setattr("mlrs_cli.transfer.build_task", lambda *words: empty)
    with pytest.raises(UsageError, match="0 of 'digits' are held out: raise --validation-size"):
        transferred(name)
    assert not Path("run").exists()
