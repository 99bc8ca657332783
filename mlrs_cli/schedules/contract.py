"""What a schedule sees and what it answers: the contract that every method of `mlrs` stands behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from mlrs_cli.errors import UsageError

__all__ = ["LARGEST_RATE", "Observation", "Probe", "Schedule"]

LARGEST_RATE = 3e38  # what a weight of 32 bits can be moved by; a run that asks for more has diverged


class Probe(Protocol):
    """The costly facts about a learner; each call runs the model."""

    def loss_after(self, lr: float) -> float:
        """Loss of this update's batch if the update were taken with `lr`; the weights are restored."""

    def meta_slope(self, lr: float) -> float:
        """⟨∇L_meta(w − lr·d), d⟩ on the next held-out batch, d being this update's direction; weights restored."""

    def validation_loss(self) -> float:
        """Mean loss over the validation split."""

    def losses_after(self, rates: Sequence[float], batches: int) -> list[float]:
        """Mean loss of `batches` other training batches if this update were taken with each of the rates."""

    def descent(self) -> float:
        """⟨ĝ, d⟩: loss gained per unit of learning rate, to first order; ĝ is the optimizer's running mean of the gradient."""

    def carry_tangent(self, lr: float, decay: float, keep_gradient: bool = False) -> None:
        """Take Z, the derivative of the weights in the learning rate, over this update: Z ← decay·∂w'/∂w·Z − d, w' = w − lr·d.

        Call it last, with the rate that `lr` answers. `keep_gradient` also keeps ∇L of this update for `validation_slopes`.
        """

    def train_slope(self) -> float:
        """⟨∇L(w), Z⟩ on this update's batch: the slope of its loss in the learning rate of the updates that Z covers."""

    def validation_slopes(self) -> tuple[float, float]:
        """(⟨∇L_val(w), Z⟩, ⟨∇L_val(w), kept gradient⟩) on the next held-out batch; 0 where nothing was carried or kept."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a schedule may look at before an update.

    Args:
        step: updates taken before this one, 0 at the first.
        budget: updates that the whole run will take.
        loss: training loss of this update's batch (natural log for classifiers), averaged over processes.
        num_classes: classes of the task (vocabulary size for language models).
        probe: answers the costly questions; absent where no learner stands behind the numbers.
    """

    step: int
    budget: int
    loss: float
    num_classes: int
    probe: Probe | None = None

    @property
    def fraction(self) -> float:
        """Share of the budget already used: 0 at the first update, below 1 at the last."""
        return self.step / self.budget

    def ask(self) -> Probe:
        """The probe, for schedules that cannot do without one."""
        if self.probe is None:
            raise UsageError("this schedule must look at the model, and here it gets the loss alone: use mlrs transfer")
        return self.probe


class Schedule(ABC):
    """Observation → learning rate. Call `lr` exactly once per update, when the loss is known, before the weights move.

    What a method needs is said by its class: `brings` names the optimizer of a method that is one (`mlrs_cli.optimizers`), in
    place of the run's own; `through_updates`: it differentiates through updates; `needs_validation`: it looks at held-out
    examples.
    """

    brings: ClassVar[str | None] = None
    through_updates: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False

    @abstractmethod
    def lr(self, observation: Observation) -> float:
        """Learning rate of this update."""

    def state_dict(self) -> dict[str, Any]:
        """All that `lr` remembers between calls, as plain tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if state:
            raise UsageError(f"{type(self).__name__} keeps no state, got one with {sorted(state)}")
