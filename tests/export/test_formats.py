"""Every exported form against the schedule itself, over 500 updates with two stage switches."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.export.export import export
from mlrs_cli.export.replay import entry_curve, read_loss_curve, replay, stretched
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.mlr_snet import SHAPES
from mlrs_cli.zoo.bundled import bundled_folder
from mlrs_cli.zoo.entry import FILES, read_entry, write_entry
from mlrs_cli.zoo.reference import resolve

BUDGET = 500
LOSSES = [2.3 * np.exp(-4 * step / BUDGET) + 0.3 * (step % 7) / 7 for step in range(BUDGET)]
KINDS = [("transfer", "once"), ("transfer", "every-stage"), ("meta-train", "every-stage")]


@pytest.fixture(params=KINDS, ids=["-".join(k) for k in KINDS])
def entry(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A schedule of three stages with strong weights, so that its rates move (stronger ones are chaotic)."""
    cell, measured = request.param
    draws = np.random.default_rng(3)
    stages = [{k: draws.normal(size=shape) * 0.25 for k, shape in SHAPES.items()} for _ in range(3)]
    method = {
        "name": "mlr-snet",
        "cell": cell,
        "gamma": {"rule": "mlr-snet", "measured": measured},
        "stages": [{"start": 0.0}, {"start": 1 / 3}, {"start": 2 / 3}],
    }
    config = {"name": "strong", "version": "1.0.0", "description": "For tests.", "license": "MIT", "method": method}
    curve = {"step": [float(s + 1) for s in range(BUDGET)], "loss": LOSSES, "lr": [0.1] * BUDGET}
    write_entry(tmp_path / "strong", config, stages, {0: curve})
    return tmp_path / "strong"


def expected(entry: Path) -> list[float]:
    rates = replay(resolve(str(entry)).schedule, LOSSES, 10)
    assert max(rates) > 1.3 * min(rates)
    return rates


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python(entry: Path) -> None:
    module = load(export(str(entry), "python", Path("s.py")))
    schedule = module.Schedule(budget=BUDGET, num_classes=10)
    rates = [schedule.lr(loss) for loss in LOSSES[:200]]
    schedule = module.Schedule(BUDGET, 10, state=json.loads(json.dumps(schedule.state())))
    start = time.perf_counter()
    rates += [schedule.lr(loss) for loss in LOSSES[200:]]
    assert (time.perf_counter() - start) / 300 < 2e-3
    assert rates == pytest.approx(expected(entry), rel=1e-9)
    with pytest.raises(ValueError, match="update 501 is nan"):
        schedule.lr(float("nan"))


def test_the_python_file_needs_nothing_else(entry: Path) -> None:
    export(str(entry), "python", Path("alone.py"))
    script = (
        "import sys, alone; alone.Schedule(10, 10).lr(2.3); sys.exit(bool({'numpy', 'mlrs_cli'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-S", "-c", script], check=True, env={"PYTHONPATH": "."})


def test_torch(entry: Path) -> None:
    import torch

    from mlrs_cli.export.graph import first_state

    program = torch.export.load(export(str(entry), "torch", Path("s.pt2"))).module()
    state, rates = first_state(), []
    for step, loss in enumerate(LOSSES):
        numbers = [torch.tensor(float(v), dtype=torch.float64) for v in (loss, step, BUDGET, 10)]
        lr, state = program(*numbers, state)
        rates.append(float(lr))
    assert rates == pytest.approx(expected(entry), rel=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx(entry: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="an optional package")
    import onnxruntime

    path = export(str(entry), "onnx", Path("s.onnx"))
    assert [p.name for p in Path().glob("*onnx*")] == ["s.onnx"]
    session = onnxruntime.InferenceSession(str(path))
    state, rates = np.zeros(102), []
    state[-1] = -1
    for step, loss in enumerate(LOSSES):
        values = {"loss": loss, "step": step, "budget": BUDGET, "num_classes": 10}
        inputs = {k: np.array(v, np.float64) for k, v in values.items()}
        lr, state = session.run(["lr", "next_state"], inputs | {"state": state})
        rates.append(float(lr))
    assert rates == pytest.approx(expected(entry), rel=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_optax(entry: Path) -> None:
    pytest.importorskip("optax", reason="an optional package")
    import jax
    import jax.numpy as jnp
    import optax

    module = load(export(str(entry), "optax", Path("s_optax.py")))
    optimizer = optax.chain(
        optax.add_decayed_weights(0.1), module.scale_by_mlr_snet(total_steps=BUDGET, num_classes=10)
    )
    params = {"w": jnp.ones(3)}
    state = optimizer.init(params)
    update = jax.jit(lambda g, s, p, loss: optimizer.update(g, s, p, value=loss))
    rates = []
    for loss in LOSSES:
        moves, state = update({"w": jnp.ones(3)}, state, params, loss)
        rates.append(float(state[-1].lr))
        assert float(moves["w"][0]) == pytest.approx(-1.1 * rates[-1], rel=1e-5)
    assert rates == pytest.approx(expected(entry), rel=1e-5)


def test_tables(entry: Path) -> None:
    rates = expected(entry)
    rows = Path(export(str(entry), "csv", Path("t.csv"), budget=BUDGET)).read_text().splitlines()
    assert rows[0] == "step,loss,lr"
    assert [float(row.split(",")[2]) for row in rows[1:]] == pytest.approx(rates, rel=1e-5)
    document = json.loads(Path(export(str(entry), "json", Path("t.json"))).read_text())
    assert document["budget"] == BUDGET
    assert document["lr"] == pytest.approx(rates, rel=1e-5)
    short = json.loads(Path(export(str(entry), "json", Path("s.json"), budget=50, num_classes=100)).read_text())
    assert len(short["lr"]) == 50
    again = Path(export("cosine:lr=0.2", "json", Path("c.json"), budget=20)).read_text()
    assert json.loads(again)["lr"] == replay(resolve("cosine:lr=0.2").schedule, [1.0] * 20, 10)


def test_a_table_over_a_curve_of_ones_own(entry: Path, mlrs: Any) -> None:
    Path("curve.csv").write_text("loss\n2.0\n1.0\n0.5\n0.25\n")
    document = json.loads(Path(export(str(entry), "json", Path("t.json"), loss_curve=Path("curve.csv"))).read_text())
    assert document["loss"] == [2.0, 1.0, 0.5, 0.25]
    mlrs("transfer --schedule cosine --model mlp --dataset digits --steps 4 --out run -q")
    document = json.loads(Path(export(str(entry), "json", Path("u.json"), loss_curve=Path("run"))).read_text())
    assert len(document["lr"]) == 4
    config = json.loads(Path("run/config.json").read_text())
    Path("run/config.json").write_text(json.dumps(config | {"num_classes": 3}))
    document = json.loads(Path(export(str(entry), "json", Path("v.json"), loss_curve=Path("run"))).read_text())
    assert document["num_classes"] == 3


def test_hub(entry: Path) -> None:
    path = export(str(entry), "hub", Path("ready"))
    assert {p.name: p.read_bytes() for p in path.iterdir()} == {name: (entry / name).read_bytes() for name in FILES}
    with pytest.raises(UsageError, match="is there already"):
        export(str(entry), "hub", Path("ready"))


def test_stretched_follows_the_curve() -> None:
    curve = [(i / 9, 10.0 - i) for i in range(10)]
    assert stretched(curve, 10) == pytest.approx([10.0 - i for i in range(10)])
    assert stretched(curve, 4) == pytest.approx([10.0, 7.0, 4.0, 1.0])
    assert stretched(curve, 19)[::2] == pytest.approx([10.0 - i for i in range(10)])
    assert stretched([(0.0, 3.0)], 3) == [3.0, 3.0, 3.0]
    assert stretched(curve, 1) == [10.0]


@pytest.mark.parametrize("budget", [10, 499, 500, 5000])
def test_the_scale_of_a_table_is_that_of_the_first_loss(budget: int) -> None:
    """The loss of a run may jump right after its first update; the table's scale must not follow the jump."""
    Path("c.csv").write_text("step,loss\n1,2.3\n5,9.0\n500,0.5\n")
    document = json.loads(Path(export("cifar10-resnet18", "json", Path("t.json"), budget, Path("c.csv"))).read_text())
    schedule: Any = resolve("cifar10-resnet18").schedule
    assert document["lr"][0] == schedule.lr(Observation(0, budget, 2.3, 10))
    assert max(document["lr"]) < 2 * document["lr"][0]


@pytest.mark.parametrize(
    "text", ["", "loss\n", "los\n1\n", "loss\nx\n", "loss\nnan\n", "step,loss\n2,1\n1,1\n", "step,loss\n0,1\n"]
)
def test_odd_curves_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UsageError, match="loss"):
        read_loss_curve(tmp_path / "c.csv")
    with pytest.raises(NotFoundError, match="no loss curve"):
        read_loss_curve(tmp_path / "nowhere.csv")


def test_an_entry_without_curves_needs_one(tmp_path: Path) -> None:
    source = read_entry(bundled_folder() / "cifar10-resnet18")
    config = source.config.model_dump(mode="json", exclude_none=True, exclude={"files", "format_version"})
    weights = [{k: v for k, v in s.weights.items()} for s in source.schedule().stages]  # type: ignore[attr-defined]  # noqa: C416
    bare = write_entry(tmp_path / "bare", config, weights, {})
    with pytest.raises(MLRSError, match="--loss-curve"):
        entry_curve(bare)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("export cifar10-resnet18 --format onxx", 2, "did you mean 'onnx'"),
        ("export cosine --format python", 2, "no network to write"),
        ("export cifar10-resnet18 --format python --budget 5", 2, "for tables"),
        ("export cifar10-resnet81 --format csv", 3, "did you mean"),
        ("export cifar10-resnet18 --format csv --budget 0", 2, "budget"),
    ],
)
def test_errors(mlrs: Any, words: str, code: int, message: str) -> None:
    result = mlrs(words)
    assert result.code == code, result.err
    assert message in result.err


def test_the_command(mlrs: Any) -> None:
    result = mlrs("export cifar10-resnet18 --format csv --budget 30 --json")
    assert result.code == 0, result.err
    assert result.json == {"path": "cifar10-resnet18.csv", "format": "csv"}
    assert len(Path("cifar10-resnet18.csv").read_text().splitlines()) == 31
    assert mlrs("export cifar10-resnet18 --format python").code == 0
    assert load(Path("cifar10_resnet18.py")).Schedule(10, 10).lr(2.3) > 0
    shutil.rmtree("there", ignore_errors=True)
    assert mlrs("export cifar10-resnet18 --format hub --output there").code == 0
    assert mlrs("zoo verify ./there").code == 0
