"""The closed-form direction against what the optimizers of torch do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW

from mlrs_cli.direction import direction
from mlrs_cli.errors import UsageError

MAKERS: dict[str, Any] = {
    "sgd": lambda p: SGD(p, lr=1.0),
    "sgd with decay": lambda p: SGD(p, lr=1.0, weight_decay=0.1),
    "momentum": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=0.1),
    "dampened": lambda p: SGD(p, lr=1.0, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: SGD(p, lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: Adam(p, lr=1.0, weight_decay=0.1),
    "adam, decoupled": lambda p: Adam(p, lr=1.0, weight_decay=0.1, decoupled_weight_decay=True),
    "adamw": lambda p: AdamW(p, lr=1.0, weight_decay=0.1, betas=(0.8, 0.99)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_with_any_rate_moves_along_the_direction(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    optimizer = MAKERS[name](model.parameters())
    for rate in (0.1, 0.003, 0.5):
        optimizer.zero_grad()
        model(torch.randn(8, 4, dtype=torch.float64)).square().mean().backward()
        state = {k: {n: torch.as_tensor(v).clone() for n, v in s.items()} for k, s in optimizer.state.items()}
        before = [p.detach().clone() for p in model.parameters()]
        moves = direction(optimizer)
        for parameter, kept in state.items():
            for key, value in kept.items():
                assert torch.equal(torch.as_tensor(optimizer.state[parameter][key]), value), "the state was written"
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        for p, w, d in zip(model.parameters(), before, moves, strict=True):
            torch.testing.assert_close(p.detach(), w - rate * d, rtol=0, atol=1e-14)


def test_a_parameter_without_gradient_does_not_move() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    used.grad = torch.ones(2)
    moves = direction(SGD([used, unused], lr=1.0, weight_decay=0.1))
    assert moves[0].tolist() == pytest.approx([1.1, 1.1])
    assert moves[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    "maker", [lambda p: Adagrad(p), lambda p: Adam(p, amsgrad=True), lambda p: SGD(p, maximize=True)]
)
def test_other_optimizers_are_refused(maker: Any) -> None:
    with pytest.raises(UsageError, match="no closed form"):
        direction(maker([torch.nn.Parameter(torch.ones(2))]))
