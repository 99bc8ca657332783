"""What may be asked of a learner between its gradients and its update: the `Probe` of `mlrs_cli.schedules.contract`.

Every question leaves weights, buffers and the random generators (of the CPU and of CUDA) as they were, and counts what it
cost.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mlrs_cli.direction import direction, mean_gradient, penalised_gradient
from mlrs_cli.errors import UsageError
from mlrs_cli.settings import RunSettings
from mlrs_cli.tangent import Tangent, carried
from mlrs_cli.tasks.images import Batch, Shard, Split
from mlrs_cli.tasks.task import Data, Task

__all__ = ["Questions"]


class Questions(ABC):
    """The part of `mlrs_cli.learner.Learner` that answers; the learner fills the attributes.

    `extra_forward` and `extra_backward` count what the answers cost, in passes over as many images as one update sees.
    """

    settings: RunSettings
    task: Task
    data: Data
    device: torch.device
    shard: Shard
    raw_model: nn.Module
    raw_optimizer: Any
    params: list[Tensor]
    ratios: list[float]
    batch_size: int
    micro: int
    step: int
    meta_step: int
    current: list[Batch]
    meta_batches: Iterator[Batch] | None
    random_before: Tensor
    device_random: Tensor | None
    tangent: Tangent | None
    extra_forward: float
    extra_backward: float

    @property
    def images_per_update(self) -> int:
        """Images that one update sees, over all processes."""
        return self.batch_size * self.shard.world * self.micro

    @abstractmethod
    def evaluate(self, split: Split) -> tuple[float, float]:
        """(mean cross-entropy, accuracy) over a split."""

    @abstractmethod
    def mean(self, value: Any) -> Tensor:
        """Mean of a scalar or tensor over all processes."""

    @contextlib.contextmanager
    def displaced(self, lr: float) -> Iterator[list[Tensor]]:
        """Weights as this update with `lr` would leave them; yields its direction. Weights and buffers come back bit for bit."""
        moves = direction(self.raw_optimizer)
        if any(r != 1 for r in self.ratios):
            moves = [d * r for d, r in zip(moves, self.ratio_of_each, strict=True)]
        weights = [p.detach().clone() for p in self.params]
        with self.buffers_kept():
            with torch.no_grad():
                torch._foreach_add_(self.params, moves, alpha=-lr)
            try:
                yield moves
            finally:
                with torch.no_grad():
                    torch._foreach_copy_(self.params, weights)

    @property
    def ratio_of_each(self) -> list[float]:
        """Each parameter's factor on the learning rate."""
        return [
            r for group, r in zip(self.raw_optimizer.param_groups, self.ratios, strict=True) for _ in group["params"]
        ]

    @contextlib.contextmanager
    def buffers_kept(self) -> Iterator[None]:
        """Put the model's buffers, BatchNorm's statistics among them, back when the block ends."""
        buffers = [b.clone() for b in self.raw_model.buffers()]
        try:
            yield
        finally:
            with torch.no_grad():
                for b, kept in zip(self.raw_model.buffers(), buffers, strict=True):
                    b.copy_(kept)

    def draws_kept(self) -> contextlib.AbstractContextManager[None]:
        """Put the random generators back when the block ends: a question changes no later dropout mask."""
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    @contextlib.contextmanager
    def same_draws(self) -> Iterator[None]:
        """The random draws of this update's forward pass again, for the same dropout masks."""
        with self.draws_kept():
            torch.set_rng_state(self.random_before)
            if self.device_random is not None:
                torch.cuda.set_rng_state(self.device_random)
            yield

    def count(self, images: int, forward: int = 1, backward: int = 0) -> None:
        """Note passes over so many images of this process that a plain update would not take."""
        share = images * self.shard.world / self.images_per_update
        self.extra_forward += forward * share
        self.extra_backward += backward * share

    def loss_after(self, lr: float) -> float:
        """Loss of this update's batch if the update were taken with `lr`; call between `forward_backward` and `update`."""
        with self.displaced(lr), torch.no_grad(), self.same_draws():
            total = sum(self.task.train_loss(self.raw_model(x), y) for x, y in self.current)
        self.count(self.batch_size * self.micro)
        return float(self.mean(total / self.micro))

    def losses_after(self, rates: Sequence[float], batches: int) -> list[float]:
        """Mean loss of the same `batches` other training batches if the update were taken with each of the rates.

        The batches are drawn by the update's number, apart from the order of training.
        """
        epoch = 10**9 + self.step  # an order that no epoch of training has
        drawn = self.data.train_batches("train", self.batch_size, self.settings.seed, epoch, 0, self.shard)
        chosen = list(islice(drawn, batches))
        out = []
        for rate in rates:
            with self.displaced(rate), torch.no_grad(), self.same_draws():
                total = sum(self.task.train_loss(self.raw_model(x), y) for x, y in chosen)
            out.append(float(self.mean(total / len(chosen))))
        self.count(self.batch_size * len(chosen) * len(out))
        return out

    def descent(self) -> float:
        """⟨ĝ, d⟩ of this update: ĝ the optimizer's running mean of the gradient, d its direction."""
        moves = direction(self.raw_optimizer)
        return inner(mean_gradient(self.raw_optimizer, self.step), moves, self.ratio_of_each)

    def carry_tangent(self, lr: float, decay: float, keep_gradient: bool = False) -> None:
        """Take Z over this update, see `mlrs_cli.tangent`; call between `forward_backward` and `update`."""
        if decay and self.settings.grad_clip:
            raise UsageError("this schedule differentiates through the update and cannot through --grad-clip: drop one")
        self.tangent = carried(
            self.raw_optimizer, self.tangent, self.curvature, lr, decay, self.ratio_of_each, keep_gradient
        )

    def curvature(self, vectors: list[Tensor]) -> list[Tensor]:
        """Hessian of this update's loss times `vectors`, by differentiating twice; weights and buffers stay.

        Attention is computed in its plain form: torch's fused ones have no second derivative.
        """
        out = [torch.zeros_like(v) for v in vectors]
        with self.buffers_kept(), self.same_draws(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for x, y in self.current:
                loss = self.task.train_loss(self.raw_model(x), y) / self.micro
                grads = torch.autograd.grad(loss, self.params, create_graph=True, allow_unused=True)
                pairs = [(g, v) for g, v in zip(grads, vectors, strict=True) if g is not None]
                product = torch.stack([(g * v).sum() for g, v in pairs]).sum()
                turns = torch.autograd.grad(product, self.params, allow_unused=True)
                for total, turn in zip(out, turns, strict=True):
                    if turn is not None:
                        total += turn
        self.count(self.batch_size * self.micro, forward=1, backward=2)
        return [self.mean(total) for total in out]

    def train_slope(self) -> float:
        """⟨∇L(w), Z⟩ on this update's batch; 0 before Z was first carried."""
        return inner(penalised_gradient(self.raw_optimizer), self.tangent.weights) if self.tangent else 0.0

    def validation_slopes(self) -> tuple[float, float]:
        """(⟨∇L_val(w), Z⟩, ⟨∇L_val(w), kept gradient⟩) on the next held-out batch, BatchNorm in training mode."""
        x, y = self.next_meta_batch()
        with self.buffers_kept(), self.draws_kept():
            loss = self.task.train_loss(self.raw_model(x), y)
            grads = torch.autograd.grad(loss, self.params, allow_unused=True)
        self.count(len(y), forward=1, backward=1)
        filled = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, self.params, strict=True)]
        along, agreement = 0.0, 0.0
        if self.tangent:
            along = inner(filled, self.tangent.weights)
            agreement = inner(filled, self.tangent.gradient) if self.tangent.gradient else 0.0
        return float(self.mean(along)), float(self.mean(agreement))

    def meta_slope(self, lr: float) -> float:
        """⟨∇L_meta(w − lr·d), d⟩ on the next held-out batch, BatchNorm in training mode.

        The one-step meta-gradient of any schedule α(θ) follows as −slope · ∂α/∂θ, with no graph through the update.
        """
        x, y = self.next_meta_batch()
        with self.displaced(lr) as moves, self.draws_kept():
            loss = self.task.train_loss(self.raw_model(x), y)
            grads = torch.autograd.grad(loss, self.params, allow_unused=True)
            exact = torch.float32 if self.device.type == "mps" else torch.float64
            slope = sum((g * d).sum(dtype=exact) for g, d in zip(grads, moves, strict=True) if g is not None)
        self.count(len(y), forward=1, backward=1)
        return float(self.mean(slope))

    def next_meta_batch(self) -> Batch:
        """The next batch of the held-out split, augmented like training data, in an order of its own.

        It is as large as the settings say for meta-training, elsewhere as a training batch.
        """
        count = self.data.count("validation")
        size = min(getattr(self.settings, "meta_batch_size", self.batch_size), count // self.shard.world)
        if size < 1:
            raise UsageError(f"meta-training needs held-out examples, and the set holds {count} out: raise --meta-size")
        epoch, number = divmod(self.meta_step, count // (size * self.shard.world))
        if self.meta_batches is None or number == 0:
            self.meta_batches = self.data.train_batches(
                "validation", size, self.settings.seed, epoch, number, self.shard
            )
        self.meta_step += 1
        return next(self.meta_batches)

    def validation_loss(self) -> float:
        """Mean loss over the held-out split."""
        self.count(-(-self.data.count("validation") // self.shard.world))
        return self.evaluate("validation")[0]


def inner(a: Sequence[Tensor], b: Sequence[Tensor], factors: Sequence[float] | None = None) -> float:
    """Inner product of two lists of tensors, summed in float64; with a factor on each pair."""
    exact = torch.float32 if a[0].device.type == "mps" else torch.float64
    products = torch.stack([(x * y).sum(dtype=exact) for x, y in zip(a, b, strict=True)])
    if factors and any(factor != 1 for factor in factors):
        products *= products.new_tensor(factors)
    return float(products.sum())  # the one value that a GPU must be waited for
