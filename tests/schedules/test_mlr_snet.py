"""The numpy network against the published outputs, the torch twin and its own promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mlrs_cli.errors import DivergedError, MLRSError
from mlrs_cli.meta.network import Network
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.gamma import gamma
from mlrs_cli.schedules.mlr_snet import CELLS, HIDDEN, SHAPES, Cell, MLRSNet, Stage, sigma_step


def arrays(network: Network) -> dict[str, Any]:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def network(seed: int = 0, cell: Cell = "transfer") -> Network:
    torch.manual_seed(seed)
    return Network(cell)


def sigmas(weights: dict[str, Any], cell: Cell, losses: list[float]) -> list[float]:
    h = c = np.zeros(HIDDEN)
    out = []
    for loss in losses:
        sigma, h, c = sigma_step(weights, cell, loss, h, c)
        out.append(sigma)
    return out


@pytest.mark.parametrize("epoch", ["1", "100", "200"])
@pytest.mark.parametrize(
    ("cell", "key"), [("transfer", "sigma_transfer_cell"), ("meta-train", "sigma_meta_train_cell")]
)
def test_both_twins_reproduce_the_published_outputs(
    golden: Any, published: Any, epoch: str, cell: Cell, key: str
) -> None:
    weights = {name: value.double().numpy() for name, value in published[epoch].items()}
    assert sigmas(weights, cell, golden["loss"]) == pytest.approx(golden[key][epoch], abs=1e-6)
    twin = Network(cell)
    twin.load_state_dict(published[epoch])
    state = twin.start()
    for loss, expected in zip(golden["loss"], golden[key][epoch], strict=True):
        sigma, state = twin(loss, state)
        assert float(sigma.detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_and_torch_agree_over_500_steps(cell: Cell) -> None:
    twin = network(1, cell)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(3)  # far from the flat answers of a fresh network
    losses = (2.3 * torch.rand(500, generator=torch.Generator().manual_seed(0)) ** 2).tolist()
    state, expected = twin.start(), []
    for loss in losses:
        sigma, state = twin(loss, state)
        expected.append(float(sigma.detach()))
    assert sigmas(arrays(twin), cell, losses) == pytest.approx(expected, abs=1e-6)
    assert np.ptp(expected) > 0.01


def test_names_and_shapes_are_those_of_the_torch_twin() -> None:
    twin = network()
    assert {name: tuple(value.shape) for name, value in twin.state_dict().items()} == SHAPES
    assert sum(p.numel() for p in twin.parameters()) == 11_776


def test_stages_switch_by_share_of_the_budget_and_the_state_runs_on() -> None:
    first, second = arrays(network(1)), arrays(network(2))
    schedule = MLRSNet([Stage(0, first), Stage(0.5, second)])
    rates = [schedule.lr(Observation(step, 6, 2.0, 10)) for step in range(6)]
    h = c = np.zeros(HIDDEN)
    for step, rate in enumerate(rates):
        sigma, h, c = sigma_step(first if step < 3 else second, "transfer", 2.0, h, c)
        assert rate == gamma(2.0, 10) * sigma


def test_gamma_is_measured_once_or_at_every_stage() -> None:
    weights = arrays(network())
    losses = [2.0, 1.0, 0.5, 0.25]
    measured = {}
    for rule in ("once", "every-stage"):
        schedule = MLRSNet([Stage(0, weights), Stage(0.5, weights)], gamma_measured=rule)  # type: ignore[arg-type]
        measured[rule] = []
        for step, loss in enumerate(losses):
            schedule.lr(Observation(step, 4, loss, 10))
            measured[rule].append(schedule.gamma)
    assert measured["once"] == [gamma(2.0, 10)] * 4
    assert measured["every-stage"] == [gamma(2.0, 10)] * 2 + [gamma(0.5, 10)] * 2


def test_five_and_five_updates_are_ten(tmp_path: Any) -> None:
    def fresh() -> MLRSNet:
        return MLRSNet([Stage(0, arrays(network(1))), Stage(0.4, arrays(network(2)))])

    losses = [2.3 / (1 + step) for step in range(10)]
    whole = fresh()
    expected = [whole.lr(Observation(step, 10, loss, 10)) for step, loss in enumerate(losses)]
    first, second = fresh(), fresh()
    got = [first.lr(Observation(step, 10, losses[step], 10)) for step in range(5)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    got += [second.lr(Observation(step, 10, losses[step], 10)) for step in range(5, 10)]
    assert got == expected


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_before_the_state_moves(loss: float) -> None:
    schedule = MLRSNet([Stage(0, arrays(network()))])
    schedule.lr(Observation(0, 9, 2.0, 10))
    before = schedule.state_dict()
    with pytest.raises(DivergedError, match="update 2"):
        schedule.lr(Observation(1, 9, loss, 10))
    assert schedule.state_dict() == before


@pytest.mark.parametrize("starts", [[], [0.1], [0, 0.5, 0.5], [0, 1.0], [0, 0.6, 0.3]])
def test_stages_that_do_not_rise_from_zero_are_refused(starts: list[float]) -> None:
    weights = arrays(network())
    with pytest.raises(MLRSError, match="stages must"):
        MLRSNet([Stage(start, weights) for start in starts])
