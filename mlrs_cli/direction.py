"""The direction d in which an optimizer would move the weights now: its update is w' = w − α·d, whatever α.

Momentum, weight decay and Adam's scaling are inside d. The optimizer's state is read, never written.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from mlrs_cli.errors import UsageError

__all__ = ["direction", "mean_gradient", "penalised_gradient"]


def direction(optimizer: Optimizer) -> list[Tensor]:
    """Direction of the next `optimizer.step()`, one tensor per parameter in the order of the groups.

    Args:
        optimizer: SGD, Adam or AdamW with gradients in place.

    Raises:
        UsageError: the optimizer is none of these, or of a variant whose step is not linear in the learning rate.
    """
    kind = type(optimizer)
    out: list[Tensor] = []
    for group in optimizer.param_groups:
        if kind not in (SGD, Adam, AdamW) or group.get("amsgrad") or group["maximize"]:
            raise UsageError(f"no closed form for the direction of {kind.__name__}: use sgd, adam or adamw")
        for p in group["params"]:
            if p.grad is None:
                out.append(torch.zeros_like(p))
                continue
            with torch.no_grad():
                state = optimizer.state.get(p, {})
                decoupled = group.get("decoupled_weight_decay", kind is AdamW)
                d = sgd(p, p.grad, group, state) if kind is SGD else adam(p, p.grad, group, state, decoupled)
                out.append(d)
    return out


def sgd(p: Tensor, grad: Tensor, group: dict[str, float], state: dict[str, Tensor]) -> Tensor:
    """Gradient and weight decay, through the momentum buffer."""
    g = grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else grad.clone()
    momentum = group["momentum"]
    if not momentum:
        return g
    buffer = state.get("momentum_buffer")
    moved = g.clone() if buffer is None else buffer.mul(momentum).add_(g, alpha=1 - group["dampening"])
    return g.add_(moved, alpha=momentum) if group["nesterov"] else moved


def adam(p: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Tensor], decoupled: bool) -> Tensor:
    """Bias-corrected mean over root mean square; weight decay inside (Adam) or beside (AdamW, `decoupled`)."""
    decay = group["weight_decay"]
    g = grad.add(p, alpha=decay) if decay and not decoupled else grad
    beta1, beta2 = group["betas"]
    step = float(state["step"]) + 1 if state else 1.0
    first = state["exp_avg"].lerp(g, 1 - beta1) if state else g * (1 - beta1)
    second = state["exp_avg_sq"].mul(beta2).addcmul_(g, g, value=1 - beta2) if state else g * g * (1 - beta2)
    root = second.sqrt_().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    d = first.div_(1 - beta1**step).div_(root)
    return d.add_(p, alpha=decay) if decay and decoupled else d


def penalised_gradient(optimizer: Optimizer) -> list[Tensor]:
    """Gradient of what the optimizer descends: the loss, and the weight decay where it is part of the gradient."""
    out = []
    for group in optimizer.param_groups:
        inside = not group.get("decoupled_weight_decay", type(optimizer) is AdamW)
        for p in group["params"]:
            g = torch.zeros_like(p) if p.grad is None else p.grad
            out.append(g.add(p.detach(), alpha=group["weight_decay"]) if group["weight_decay"] and inside else g)
    return out


def mean_gradient(optimizer: Optimizer, step: int) -> list[Tensor]:
    """The optimizer's running mean of the gradient, this update's included and bias corrected; the gradient of plain SGD.

    Args:
        optimizer: SGD without dampening, Adam or AdamW with gradients in place.
        step: updates taken before this one.
    """
    means = []
    pairs = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    for (p, group), g in zip(pairs, penalised_gradient(optimizer), strict=True):
        state = optimizer.state.get(p, {})
        beta = group["betas"][0] if "betas" in group else group["momentum"]
        if not beta:
            means.append(g)
        elif "betas" in group:
            mean = state["exp_avg"].lerp(g, 1 - beta) if state else g * (1 - beta)
            means.append(mean / (1 - beta ** (float(state["step"]) + 1 if state else 1)))
        else:
            buffer = state.get("momentum_buffer")
            total = g if buffer is None else buffer.mul(beta).add_(g)
            means.append(total * ((1 - beta) / (1 - beta ** (step + 1))))
    return means
