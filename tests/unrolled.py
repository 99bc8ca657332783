"""The slow twin of forward-mode tangents: a whole run written out as one function of the learning rate, then autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD, AdamW, Optimizer

from mlrs_cli.learner import Learner
from mlrs_cli.tasks.images import Batch
from mlrs_cli.tasks.task import Task, build_task

Weights = dict[str, Tensor]


class Double(nn.Module):
    """Pixels in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def smooth_learner(settings: Any, make: Any = None, dropout: float = 0.0, **changes: Any) -> Learner:
    """A learner in float64 whose loss has all derivatives: a tanh network on digits.

    `make` builds the optimizer from the model; that of the settings by default.
    """
    chosen = settings(**({"batch_size": 24, "validation_size": 60, "weight_decay": 0.0} | changes))
    data = build_task(chosen).data
    torch.manual_seed(7)
    model = nn.Sequential(
        Double(), nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Dropout(dropout), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 10)
    ).double()  # fmt: skip
    return Learner(Task(model, data, nn.CrossEntropyLoss()), chosen, make(model) if make else None)


def loss_at(learner: Learner, weights: Weights, batches: list[Batch]) -> Tensor:
    """Mean loss of the batches at other weights."""
    losses = [nn.functional.cross_entropy(functional_call(learner.raw_model, weights, (x,)), y) for x, y in batches]
    return torch.stack(losses).mean()


def names_of(learner: Learner) -> list[str]:
    """Names of the parameters in the optimizer's order."""
    names = {id(p): name for name, p in learner.raw_model.named_parameters()}
    return [names[id(p)] for p in learner.params]


def copies(learner: Learner) -> Weights:
    return {name: p.detach().clone() for name, p in zip(names_of(learner), learner.params, strict=True)}


class Run:
    """Updates written out from here on; `change` is what is added to each rate, times the update's share.

    Args:
        learner: at the first update.
        optimizer: its optimizer, for kind and constants alone.
    """

    def __init__(self, learner: Learner, optimizer: Optimizer) -> None:
        self.learner, self.kind = learner, type(optimizer)
        self.change = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.weights: Weights = {k: w.requires_grad_(True) for k, w in copies(learner).items()}
        groups = [group for group in optimizer.param_groups for _ in group["params"]]
        self.groups: dict[str, dict[str, Any]] = dict(zip(names_of(learner), groups, strict=True))
        self.ratios = dict(zip(names_of(learner), learner.ratio_of_each, strict=True))
        self.memory: dict[str, tuple[Tensor, ...]] = {}
        self.taken = 0

    def update(self, batches: list[Batch], lr: float, share: float = 1.0) -> None:
        """One update, its graph kept."""
        loss = loss_at(self.learner, self.weights, batches)
        grads = torch.autograd.grad(loss, list(self.weights.values()), create_graph=True)
        self.taken += 1
        rate = lr + share * self.change
        for (name, w), g in zip(list(self.weights.items()), grads, strict=True):
            self.weights[name] = w - rate * self.ratios[name] * self.direction(name, w, g)

    def direction(self, name: str, w: Tensor, g: Tensor) -> Tensor:
        """The optimizers as their papers and torch's manual have them."""
        group, decay = self.groups[name], self.groups[name]["weight_decay"]
        if self.kind is not AdamW:
            g = g + decay * w
        if self.kind is SGD:
            momentum = group["momentum"]
            if not momentum:
                return g
            (buffer,) = self.memory.get(name, (None,))
            buffer = g if buffer is None else momentum * buffer + (1 - group["dampening"]) * g
            self.memory[name] = (buffer,)
            return g + momentum * buffer if group["nesterov"] else buffer
        beta1, beta2 = group["betas"]
        m, v = self.memory.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        self.memory[name] = (m, v)
        d = m / (1 - beta1**self.taken) / ((v / (1 - beta2**self.taken)).sqrt() + group["eps"])
        return d + decay * w if self.kind is AdamW else d

    def tangents(self) -> list[Tensor]:
        """∂weights/∂change, by differentiating the transposed product, which is linear, once more."""
        weights = list(self.weights.values())
        ones = [torch.ones_like(w, requires_grad=True) for w in weights]
        (along,) = torch.autograd.grad(weights, self.change, ones, create_graph=True)
        return list(torch.autograd.grad(along, ones, retain_graph=True))

    def slope(self, batch: Batch) -> float:
        """∂loss/∂change on a batch at the present weights."""
        loss = loss_at(self.learner, self.weights, [batch])
        return float(torch.autograd.grad(loss, self.change, retain_graph=True)[0])


def peek_meta_batch(learner: Learner) -> Batch:
    """The held-out batch that the next question gets."""
    batch = learner.next_meta_batch()
    learner.meta_step -= 1
    learner.meta_batches = None
    return batch
