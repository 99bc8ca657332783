"""One model being trained, one update at a time: the only place that steps an optimizer."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer

from mlrs_cli.errors import UsageError
from mlrs_cli.optimizers import make_optimizer
from mlrs_cli.questions import Questions
from mlrs_cli.settings import RunSettings
from mlrs_cli.tangent import Tangent
from mlrs_cli.tasks.images import Batch, Shard, Split
from mlrs_cli.tasks.task import Task

__all__ = ["Learner", "describe_learner", "make_accelerator", "start_facts"]

TEST_BATCH = 512
CALIBRATION = 50  # batches over which BatchNorm's statistics are taken for averaged weights


class Learner(Questions):
    """Model, optimizer and position in the data.

    One update is `forward_backward()`, any number of questions (`mlrs_cli.questions`), then
    `update(lr)`. Parameter groups keep the ratios of the learning rates they were built with.

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
        self.meta_batches: Iterator[Batch] | None = None
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
        # The same batches in every process: all must judge the same model.
        batches = self.data.train_batches("train", self.batch_size, self.settings.seed, 10**9 + self.step)
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
        self.batches, self.meta_batches = None, None
        set_random_state(state["random"][self.shard.rank])


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
    """Let glibc keep what tensors free: activations are larger than its mmap threshold, so that by default every update
    hands their memory back and faults it in anew.
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
