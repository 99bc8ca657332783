"""Methods that are optimizers of other packages: they train, resume, are judged by the right weights, and stay in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import folder, same, stop_after
from torch import nn

from mlrs_cli.adapters.torch import MLRScheduler
from mlrs_cli.errors import InterruptedRunError, NotFoundError, UsageError
from mlrs_cli.learner import Learner
from mlrs_cli.optimizers import PACKAGES, make_optimizer, require_package
from mlrs_cli.run import read_run
from mlrs_cli.schedules.named import parse_named
from mlrs_cli.schedules.parameter_free import PARAMETER_FREE
from mlrs_cli.settings import TransferSettings
from mlrs_cli.tasks.task import Task, build_task
from mlrs_cli.train import train
from mlrs_cli.transfer import find_schedule, make_learner

NAMES = list(PARAMETER_FREE)
SLIM = {"model": "resnet8-slim", "validation_size": 64, "momentum": 0.9}


def needs(name: str) -> None:
    pytest.importorskip(PACKAGES[name], reason="an optional package")


def run(settings: TransferSettings, path: Path, watch: Any = lambda facts: None) -> Learner:
    """`mlrs transfer` without its command: the learner at the end."""
    resolved, factor = find_schedule(settings)
    learner = make_learner(resolved, settings)
    train(learner, resolved.schedule, folder(path), settings.lr_scale * factor, watch)
    return learner


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", NAMES)
def test_they_train(settings: Any, tmp_path: Path, name: str, optimizer: str) -> None:
    needs(name)
    run(settings(schedule=name, optimizer=optimizer, steps=80, limit_batches=40), tmp_path / "run")
    losses = read_run(tmp_path / "run")["updates"]["loss"]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize("name", NAMES)
def test_the_kind_follows_the_task(settings: Any, name: str) -> None:
    needs(name)
    kinds = {}
    for optimizer in ("sgd", "adam", "adamw"):
        chosen = settings(schedule=name, optimizer=optimizer, weight_decay=0.01)
        made: Any = make_learner(find_schedule(chosen)[0], chosen).raw_optimizer
        kinds[optimizer] = type(made).__name__, [g.get("decouple") for g in made.param_groups]
        assert {g["weight_decay"] for g in made.param_groups} == {0.01}
    assert (
        kinds
        == {
            "schedule-free": {
                "sgd": ("SGDScheduleFree", [None]),
                "adam": ("AdamWScheduleFree", [None]),
                "adamw": ("AdamWScheduleFree", [None]),
            },
            "prodigy": {"sgd": ("Prodigy", [False]), "adam": ("Prodigy", [False]), "adamw": ("Prodigy", [True])},
            "d-adaptation": {
                "sgd": ("DAdaptSGD", [None]),
                "adam": ("DAdaptAdam", [False]),
                "adamw": ("DAdaptAdam", [True]),
            },
        }[name]
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", NAMES)
def test_five_and_five_updates_are_ten(settings: Any, tmp_path: Path, name: str, optimizer: str) -> None:
    needs(name)
    how = SLIM | {"evaluate_every": 10} if name == "schedule-free" else {"momentum": 0.9}  # with BatchNorm's statistics
    chosen = settings(schedule=name, optimizer=optimizer, limit_batches=4, batch_size=16, **how)
    run(chosen, tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match="stopped after update 5 of 10"):
        run(chosen, tmp_path / "parts", stop_after(5))
    run(chosen, tmp_path / "parts")
    same(*(torch.load(tmp_path / p / "last.pt", weights_only=True) for p in ("whole", "parts")))
    for file in ("lr.csv", "best.pt"):
        one, other = (
            torch.load(tmp_path / p / file) if file.endswith("pt") else (tmp_path / p / file).read_text()
            for p in ("whole", "parts")
        )
        same(one, other)
    summaries = [json.loads((tmp_path / p / "summary.json").read_text()) for p in ("whole", "parts")]
    assert summaries[0]["test_loss"] == summaries[1]["test_loss"]


def averaged(learner: Learner) -> dict[str, torch.Tensor]:
    """The slow twin: x of schedule-free from the y that is trained and the z in its state, y = (1 − β)·z + β·x."""
    group = learner.raw_optimizer.param_groups[0]
    beta = group["momentum"] if "momentum" in group else group["betas"][0]
    out = {}
    for name, y in learner.raw_model.named_parameters():
        z = learner.raw_optimizer.state[y]["z"].double()
        out[name] = ((y.detach().double() - (1 - beta) * z) / beta).float()
    return out


def mean_statistics(learner: Learner, weights: dict[str, torch.Tensor], model: nn.Module) -> nn.Module:
    """A model with these weights, and for BatchNorm the plain means of 50 batches' statistics, taken by hand."""
    model.load_state_dict(weights, strict=False)
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    hooks = []
    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):

            def note(module: nn.Module, inputs: tuple[torch.Tensor], name: str = name) -> None:
                x = inputs[0].detach()
                seen.setdefault(name, []).append((x.mean((0, 2, 3)), x.var((0, 2, 3))))

            hooks.append(norm.register_forward_pre_hook(note))
    model.train()
    epoch = 10**9 + learner.step
    for (x, _), _ in zip(
        learner.data.train_batches("train", learner.batch_size, learner.settings.seed, epoch), range(50), strict=False
    ):
        model(x)
    for hook in hooks:
        hook.remove()
    for name, statistics in seen.items():
        norm: Any = model.get_submodule(name)
        norm.running_mean.copy_(torch.stack([m for m, _ in statistics]).mean(0))
        norm.running_var.copy_(torch.stack([v for _, v in statistics]).mean(0))
    return model.eval()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_schedule_free_is_judged_by_its_average_with_its_own_statistics(
    settings: Any, tmp_path: Path, optimizer: str
) -> None:
    needs("schedule-free")
    chosen = settings(schedule="schedule-free", optimizer=optimizer, evaluate_every=10, **SLIM)
    learner = run(chosen, tmp_path / "run")
    average = averaged(learner)
    with torch.random.fork_rng(devices=[]):
        blank = make_learner(find_schedule(chosen)[0], chosen).raw_model
    model = mean_statistics(learner, average, blank)
    x, y = next(iter(learner.data.test_batches("test", 1000)))
    with torch.no_grad():
        logits = model(x)
    loss = float(nn.functional.cross_entropy(logits, y))
    assert learner.evaluate("test")[0] == pytest.approx(loss, rel=1e-4)
    with torch.no_grad():
        trained = float(nn.functional.cross_entropy(learner.raw_model.eval()(x), y))
    assert abs(loss / trained - 1) > 1e-3, "the weights of training give another loss"

    best = torch.load(tmp_path / "run" / "best.pt")
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(best[name], value, rtol=1e-4, atol=1e-5)
    for name, p in learner.raw_model.named_parameters():
        assert not torch.equal(best[name], p), "training goes on from other weights"


@pytest.mark.parametrize("what", ["weights", "statistics", "draws"])
def test_evaluation_leaves_training_alone(settings: Any, what: str) -> None:
    needs("schedule-free")
    chosen = settings(validation_size=64, momentum=0.9)
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10)
    )
    optimizer = make_optimizer(model.parameters(), chosen, "schedule-free")
    learner = Learner(Task(model, build_task(chosen).data, nn.CrossEntropyLoss()), chosen, optimizer)
    for _ in range(3):
        learner.forward_backward()
        learner.update(1.0)

    def now() -> dict[str, torch.Tensor]:
        parts = {"weights": learner.raw_model.named_parameters, "statistics": learner.raw_model.named_buffers}
        if what == "draws":
            return {"generator": torch.get_rng_state()}
        return {name: value.detach().clone() for name, value in parts[what]()}

    before = now()
    for _ in range(3):
        learner.evaluate("validation")
    for name, value in now().items():
        assert torch.equal(value, before[name]), f"{name} is off by {float((value - before[name]).abs().max())}"
    assert learner.raw_model.training
    assert [m.momentum for m in learner.raw_model if isinstance(m, nn.BatchNorm2d)] == [0.1]


def test_what_an_evaluation_costs_is_counted(settings: Any, tmp_path: Path) -> None:
    needs("schedule-free")
    learner = run(settings(schedule="schedule-free", evaluate_every=10, **SLIM), tmp_path / "run")
    assert learner.extra_forward == (len(learner.data.splits["train"][1])) // 32 == 43  # fewer than 50 batches
    plain = run(settings(schedule="schedule-free", evaluate_every=10), tmp_path / "no norms")
    assert plain.extra_forward == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_sentence(mlrs: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("mlrs_cli.optimizers.find_spec", lambda package: None)
    result = mlrs(f"transfer --schedule {name} --model mlp --dataset digits --steps 2")
    assert result.code == 2
    assert f"pip install {PACKAGES[name]}" in result.err
    assert "Traceback" not in result.err
    assert result.err.strip().count("\n") <= 1
    assert not Path("runs").exists()
    with pytest.raises(NotFoundError, match="no optimizer 'prodigal'"):
        require_package("prodigal")


@pytest.mark.parametrize("name", NAMES)
def test_they_cannot_be_drawn_exported_or_put_beside_an_optimizer(mlrs: Any, name: str) -> None:
    for words in (f"plot {name} --output x.png", f"export {name} --format csv", f"export {name} --format python"):
        result = mlrs(words)
        assert result.code == 2, words
        assert "Traceback" not in result.err
        assert result.out == ""
    assert not list(Path().glob("*.*"))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(UsageError, match="must look at the model"):
        MLRScheduler.from_zoo(name, optimizer, 10).step(2.3)


def test_timm_is_refused_too() -> None:
    from mlrs_cli.adapters.timm import TimmScheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(UsageError, match="must look at the model"):
        TimmScheduler.from_zoo("prodigy", optimizer, 10)


@pytest.mark.parametrize(("name", "sgd", "adam"), [("schedule-free", 1.0, 0.0025), ("prodigy", 1.0, 1.0)])
def test_their_factor_is_that_of_the_package(name: str, sgd: float, adam: float) -> None:
    for optimizer, expected in (("sgd", sgd), ("adam", adam), ("adamw", adam)):
        made: Any = parse_named(name, optimizer)
        assert made.peak == expected
