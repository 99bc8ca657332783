"""One model being trained, one update at a time: the only place that steps an optimizer."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from mlrs_cli.direction import direction, mean_gradient, penalised_gradient
from mlrs_cli.errors import UsageError
from mlrs_cli.optimizers import make_optimizer
from mlrs_cli.settings import RunSettings
from mlrs_cli.tangent import Tangent, carried
from mlrs_cli.tasks.images import Batch, Shard, Split
from mlrs_cli.tasks.task import Task

__all__ = ["Learner", "describe_learner", "make_accelerator", "start_facts"]

TEST_BATCH = 512
CALIBRATION = 50  # batches over which BatchNorm's statistics are taken for averaged weights


class Learner:
    """Model, optimizer and position in the data.

    One update is `forward_backward()`, any number of questions (the `Probe` of `mlrs_cli.schedules.contract`), then
    `update(lr)`. Parameter groups keep the ratios of the learning rates they were built with. What questions cost is
    counted in `extra_forward` and `extra_backward`, in passes over as many images as one update sees.

    Args:
        task: what is trained.
        settings: how.
        optimizer: over the task's parameters; that of the settings by default.
        accelerator: device, precision and processes; that of the settings by default.
    """

    def __init__(
        self,
        task: Task,
        settings: RunSettings,
        optimizer: Optimizer | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator or make_accelerator(settings)
        self.device = self.accelerator.device
        self.task = task
        self.data = task.data.to(self.device)
        model = task.model.to(self.device).to(memory_format=torch.channels_last)
        optimizer = optimizer or make_optimizer(model.parameters(), settings)
        base = optimizer.param_groups[0]["lr"]
        self.ratios = [group["lr"] / base for group in optimizer.param_groups]
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.raw_model = self.accelerator.unwrap_model(self.model)
        self.raw_optimizer: Any = optimizer
        if hasattr(optimizer, "train"):
            optimizer.train()  # schedule-free ones train other weights than they are judged by
        self.shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)
        self.batch_size = min(settings.batch_size, max(1, self.data.count("train") // self.shard.world))
        self.micro = settings.grad_accumulation
        self.step, self.meta_step = 0, 0
        self.extra_forward, self.extra_backward = 0.0, 0.0
        self.tangent: Tangent | None = None
        self.averaged = False
        self.current: list[Batch] = []
        self.batches: Iterator[Batch] | None = None
        torch.manual_seed(settings.seed + self.shard.rank)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.task.num_classes

    @property
    def budget(self) -> int:
        """Updates of the whole run, as the settings ask."""
        return self.settings.steps or self.settings.epochs * self.updates_per_epoch

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the training split; a last batch that is not full is left out."""
        per_update = self.batch_size * self.shard.world * self.micro
        whole = self.data.count("train") // per_update
        if whole < 1:
            raise UsageError(
                f"{self.data.count('train')} training examples are fewer than the {per_update} of one update"
            )
        return min(whole, self.settings.limit_batches or whole)

    @property
    def images_per_update(self) -> int:
        """Images that one update sees, over all processes."""
        return self.batch_size * self.shard.world * self.micro

    def next_batches(self) -> list[Batch]:
        """The batches of this update: one, or one per accumulation step."""
        epoch, update = divmod(self.step, self.updates_per_epoch)
        if self.batches is None or update == 0:
            self.batches = self.data.train_batches(
                "train", self.batch_size, self.settings.seed, epoch, update * self.micro, self.shard
            )
        return [next(self.batches) for _ in range(self.micro)]

    def forward_backward(self) -> float:
        """Take the next batch, fill the gradients (clipped, if so set) and return the mean loss over all processes."""
        self.current = self.next_batches()
        self.random_before = torch.get_rng_state()
        self.device_random = torch.cuda.get_rng_state() if self.device.type == "cuda" else None
        self.model.train()
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for number, (x, y) in enumerate(self.current, start=1):
            last = number == self.micro
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.train_loss(self.model(x), y) / self.micro
                self.accelerator.backward(loss)
            total += loss.detach()
        self.accelerator.unscale_gradients(self.optimizer)
        if self.settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.params, self.settings.grad_clip)
        return float(self.mean(total))

    def update(self, lr: float) -> None:
        """Move the weights along the optimizer's direction with learning rate `lr`."""
        for group, ratio in zip(self.raw_optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio
        self.optimizer.step()
        self.step += 1

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
        x, y = self.next_meta_batch(getattr(self.settings, "meta_batch_size", self.batch_size))
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
        size = getattr(self.settings, "meta_batch_size", self.batch_size)
        x, y = self.next_meta_batch(size)
        with self.displaced(lr) as moves, self.draws_kept():
            loss = self.task.train_loss(self.raw_model(x), y)
            grads = torch.autograd.grad(loss, self.params, allow_unused=True)
            exact = torch.float32 if self.device.type == "mps" else torch.float64
            slope = sum((g * d).sum(dtype=exact) for g, d in zip(grads, moves, strict=True) if g is not None)
        self.count(len(y), forward=1, backward=1)
        return float(self.mean(slope))

    def next_meta_batch(self, size: int) -> Batch:
        """The next batch of the held-out split, augmented like training data, in an order of its own."""
        count = self.data.count("validation")
        size = min(size, count // self.shard.world)
        if size < 1:
            raise UsageError(f"meta-training needs held-out examples, and the set holds {count} out: raise --meta-size")
        epoch, number = divmod(self.meta_step, count // (size * self.shard.world))
        self.meta_step += 1
        return next(self.data.train_batches("validation", size, self.settings.seed, epoch, number, self.shard))

    def validation_loss(self) -> float:
        """Mean loss over the held-out split."""
        self.count(-(-self.data.count("validation") // self.shard.world))
        return self.evaluate("validation")[0]

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """The weights that an optimizer wants to be judged by: an average, for schedule-free ones; else those at hand.

        BatchNorm's statistics belong to the weights of training, so they are taken anew for the average, as the authors
        of the method advise, and put back afterwards.
        """
        if self.averaged or not hasattr(self.raw_optimizer, "eval"):
            yield
            return
        weights = [p.detach().clone() for p in self.params]  # the optimizer's way back is not exact
        self.raw_optimizer.eval()
        self.averaged = True
        norms = [m for m in self.raw_model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        try:
            with self.buffers_kept():
                if norms:
                    self.calibrate(norms)
                yield
        finally:
            self.raw_optimizer.train()
            with torch.no_grad():
                torch._foreach_copy_(self.params, weights)
            self.averaged = False

    @torch.no_grad()
    def calibrate(self, norms: list[Any]) -> None:
        """Replace BatchNorm's running statistics by means over training batches under the present weights."""
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean
        self.raw_model.train()
        batches = self.data.train_batches(
            "train", self.batch_size, self.settings.seed, 10**9 + self.step, 0, self.shard
        )
        with self.draws_kept():
            for x, _ in islice(batches, min(CALIBRATION, self.settings.limit_batches or CALIBRATION)):
                self.raw_model(x)
                self.count(len(x))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.no_grad()
    def evaluate(self, split: Split) -> tuple[float, float]:
        """(mean cross-entropy, accuracy as a fraction) over a split, in evaluation mode."""
        if not self.data.count(split):
            raise UsageError(f"this task has no examples in its split '{split}'")
        with self.evaluation_weights():
            self.raw_model.eval()
            sums = torch.zeros(3, dtype=torch.float64, device="cpu" if self.device.type == "mps" else self.device)
            for number, (x, y) in enumerate(self.data.test_batches(split, TEST_BATCH, self.shard)):
                if number == self.settings.limit_batches:
                    break
                logits = self.raw_model(x).float()
                loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
                sums += sums.new_tensor([float(loss), int((logits.argmax(1) == y).sum()), len(y)])
            self.raw_model.train()
        loss_sum, right, count = self.accelerator.reduce(sums, "sum").tolist()
        return loss_sum / count, right / count

    def mean(self, value: Any) -> Tensor:
        """Mean of a scalar over all processes, so that every one sees the same number."""
        exact = torch.float64 if isinstance(value, float) and self.device.type != "mps" else None
        tensor = torch.as_tensor(value, dtype=exact, device=self.device)
        return self.accelerator.reduce(tensor, "mean") if self.shard.world > 1 else tensor

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on, from every process; plain tensors, numbers and strings."""
        return {
            "model": self.raw_model.state_dict(),
            "optimizer": self.raw_optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "step": self.step,
            "meta_step": self.meta_step,
            "extra": [self.extra_forward, self.extra_backward],
            "tangent": self.tangent.state_dict() if self.tangent else {},
            "random": gather_object([random_state()]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`, bit for bit on CPU."""
        if len(state["random"]) != self.shard.world:
            raise UsageError(
                f"the run was saved by {len(state['random'])} processes and is resumed by {self.shard.world}: use as many"
            )
        self.raw_model.load_state_dict(state["model"])
        self.raw_optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.meta_step = state["step"], state["meta_step"]
        self.extra_forward, self.extra_backward = state.get("extra", (0.0, 0.0))
        self.tangent = Tangent(**state["tangent"]).to(self.device) if state.get("tangent") else None
        self.batches = None
        set_random_state(state["random"][self.shard.rank])


def inner(a: Sequence[Tensor], b: Sequence[Tensor], factors: Sequence[float] | None = None) -> float:
    """Inner product of two lists of tensors, summed in float64; with a factor on each pair."""
    total = 0.0
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        total += float((x * y).sum(dtype=torch.float32 if x.device.type == "mps" else torch.float64)) * (
            factors[i] if factors else 1.0
        )
    return total


def start_facts(learner: Learner) -> dict[str, Any]:
    """What a watcher must know before the first update."""
    return {"step": 0, "budget": learner.budget, "images_per_update": learner.images_per_update}


def describe_learner(learner: Learner) -> dict[str, Any]:
    """Model, data, budget and machine in words, for --dry-run."""
    settings, data = learner.settings, learner.data
    channels, size = data.shape
    counts = ", ".join(f"{data.count(s):,} {s}" for s in ("train", "validation", "test") if data.count(s))
    processes = f", {learner.shard.world} processes" if learner.shard.world > 1 else ""
    return {
        "model": f"{settings.model}, {sum(p.numel() for p in learner.raw_model.parameters()):,} parameters",
        "dataset": f"{settings.dataset}, {counts}, {channels} × {size} × {size}, {data.num_classes} classes",
        "updates": f"{learner.budget:,}, {learner.updates_per_epoch:,} an epoch, {learner.images_per_update} images each",
        "optimizer": f"{settings.optimizer}, weight decay {settings.weight_decay:g}",
        "machine": f"{learner.device.type}, {settings.precision}{processes}",
    }


def make_accelerator(settings: RunSettings) -> Accelerator:
    """Device, precision and processes of a run, from its settings and torchrun's environment."""
    from accelerate.state import PartialState

    cpu = settings.device == "cpu"
    kind = "cpu" if cpu else PartialState().device.type
    if settings.device not in ("auto", kind):
        raise UsageError(f"no device '{settings.device}' here, the best is '{kind}': drop --device")
    if settings.precision == "fp16" and kind not in ("cuda", "xpu"):
        raise UsageError(f"fp16 needs a GPU and this run is on '{kind}': use --precision bf16 or fp32")
    if kind == "cpu":
        keep_freed_memory()
    torch.use_deterministic_algorithms(settings.deterministic)
    AcceleratorState._reset_state()  # a second learner in one process may have another precision
    return Accelerator(cpu=cpu, mixed_precision="no" if settings.precision == "fp32" else settings.precision)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of handing it back and faulting it in anew at each update.

    Activations are larger than glibc's mmap threshold; on 2 cores a ResNet-8 update takes a quarter less time with this.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            for option, value in (
                (-3, 1 << 30),
                (-1, -1),
                (-2, 1 << 28),
            ):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
                libc.mallopt(option, value)


def random_state() -> dict[str, Any]:
    """State of every global generator that a model may draw from."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [str(kind), [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every global generator back."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
