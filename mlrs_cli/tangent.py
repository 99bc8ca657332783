"""The derivative Z = ∂w/∂α of the weights in the learning rate, carried forward over updates (forward mode).

    Z ← decay·(Z − α·∂d/∂w·Z) − d

∂d/∂w·Z needs a Hessian–vector product H·Z and goes through the optimizer's own state, whose derivatives are carried
beside Z. With decay 0 (hypergradient descent) Z is −d and no product is needed; with decay 1 it covers the whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from mlrs_cli.direction import direction

__all__ = ["Tangent", "carried"]

Slots = dict[str, Tensor]


@dataclass
class Tangent:
    """Z, the derivatives of the optimizer's state, and on request the gradient of the last update; one a parameter."""

    weights: list[Tensor]
    slots: list[Slots]
    gradient: list[Tensor] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors."""
        return {"weights": self.weights, "slots": self.slots, "gradient": self.gradient}

    def to(self, device: torch.device) -> Tangent:
        """The same on a device."""
        slots = [{name: value.to(device) for name, value in slot.items()} for slot in self.slots]
        return Tangent([z.to(device) for z in self.weights], slots, [g.to(device) for g in self.gradient])


@torch.no_grad()
def carried(
    optimizer: Optimizer,
    tangent: Tangent | None,
    product: Callable[[list[Tensor]], list[Tensor]],
    lr: float,
    decay: float,
    ratios: list[float],
    keep_gradient: bool,
) -> Tangent:
    """Z after the update that is about to be taken.

    Args:
        optimizer: with this update's gradients in place, not yet stepped.
        tangent: Z before it; None at the first update.
        product: v ↦ H·v for the loss of this update's batch.
        lr: of this update.
        decay: share of Z that is carried on.
        ratios: each parameter's factor on `lr`.
        keep_gradient: keep this update's gradient.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    weights = [d.mul_(-r) for d, r in zip(direction(optimizer), ratios, strict=True)]
    slots: list[Slots] = [{} for _ in params]
    if tangent is not None and decay:
        products = product(tangent.weights)
        groups = [group for group in optimizer.param_groups for _ in group["params"]]
        for i, (p, group, z, hz) in enumerate(zip(params, groups, tangent.weights, products, strict=True)):
            if p.grad is None:  # it does not move, and its state neither
                weights[i] = z * decay
                slots[i] = {name: value * decay for name, value in tangent.slots[i].items()}
                continue
            move, moved = turned(type(optimizer), p, group, optimizer.state.get(p, {}), z, hz, tangent.slots[i])
            weights[i].add_(z, alpha=decay).add_(move, alpha=-decay * lr * ratios[i])
            slots[i] = {name: value.mul_(decay) for name, value in moved.items()}
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params] if keep_gradient else []
    return Tangent(weights, slots, gradient)


def turned(
    kind: type, p: Tensor, group: dict[str, Any], state: dict[str, Any], z: Tensor, hz: Tensor, slots: Slots
) -> tuple[Tensor, Slots]:
    """(∂d/∂w·z through weights and state, the same for the state): the derivative of what `direction` computes."""
    assert p.grad is not None
    decay = group["weight_decay"]
    decoupled = group.get("decoupled_weight_decay", kind is AdamW)
    turn = hz.add(z, alpha=decay) if decay and not decoupled else hz
    if kind is SGD:
        if not group["momentum"]:
            return turn, {}
        buffer = slots.get("buffer")
        first = state.get("momentum_buffer") is None
        if first or buffer is None:
            moved = turn.clone() if first else turn * (1 - group["dampening"])
        else:
            moved = buffer.mul(group["momentum"]).add_(turn, alpha=1 - group["dampening"])
        return (turn.add(moved, alpha=group["momentum"]) if group["nesterov"] else moved.clone()), {"buffer": moved}
    beta1, beta2 = group["betas"]
    step = float(state["step"]) + 1 if state else 1.0
    g = p.grad.add(p, alpha=decay) if decay and not decoupled else p.grad
    zero = torch.zeros_like(p)
    mean, square = state.get("exp_avg", zero), state.get("exp_avg_sq", zero)
    mean_hat = mean.lerp(g, 1 - beta1).div_(1 - beta1**step)
    root = square.mul(beta2).addcmul_(g, g, value=1 - beta2).div_(1 - beta2**step).sqrt_()
    below = root + group["eps"]
    mean_turn = slots.get("mean", zero).mul(beta1).add_(turn, alpha=1 - beta1)
    square_turn = slots.get("square", zero).mul(beta2).addcmul_(g, turn, value=2 * (1 - beta2))
    root_turn = torch.where(root > 0, square_turn / (1 - beta2**step) / (2 * root), zero)
    move = mean_turn / (1 - beta1**step) / below - mean_hat * root_turn / below**2
    if decay and decoupled:
        move = move.add(z, alpha=decay)
    return move, {"mean": mean_turn, "square": square_turn}
