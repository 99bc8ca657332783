"""Z, carried forward, against autograd through the whole run; and what the questions to a learner leave alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from unrolled import Run, copies, loss_at, names_of, peek_meta_batch, smooth_learner

from mlrs_cli.direction import direction
from mlrs_cli.errors import UsageError
from mlrs_cli.learner import Learner
from mlrs_cli.tangent import Tangent
from mlrs_cli.tasks.task import Task, build_task


def two_groups(model: nn.Module) -> Optimizer:
    first, *rest = model.parameters()
    return SGD([{"params": rest, "lr": 1.0}, {"params": [first], "lr": 0.2}], momentum=0.9)


OPTIMIZERS: dict[str, tuple[float, Callable[[nn.Module], Optimizer]]] = {
    "sgd": (0.5, lambda m: SGD(m.parameters(), lr=1.0)),
    "sgd with weight decay": (0.5, lambda m: SGD(m.parameters(), lr=1.0, weight_decay=0.1)),
    "momentum": (0.1, lambda m: SGD(m.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)),
    "nesterov": (0.1, lambda m: SGD(m.parameters(), lr=1.0, momentum=0.9, nesterov=True)),
    "dampening": (0.1, lambda m: SGD(m.parameters(), lr=1.0, momentum=0.9, dampening=0.5)),
    "two groups": (0.1, two_groups),
    "adam": (0.01, lambda m: Adam(m.parameters(), lr=1.0)),
    "adam with weight decay": (0.01, lambda m: Adam(m.parameters(), lr=1.0, weight_decay=0.1)),
    "adamw": (0.01, lambda m: AdamW(m.parameters(), lr=1.0, weight_decay=0.3)),
}


def close(one: list[torch.Tensor], other: list[torch.Tensor], least: float = 1e-7) -> None:
    """Equal to a part in 10⁷ of the whole."""
    for a, b in zip(one, other, strict=True):
        assert float((a - b).norm()) <= least * float(b.norm()), float((a - b).norm() / b.norm())
        assert float(b.norm()) > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [1.0, 0.6], ids=["all of the run", "forgetting"])
def test_the_carried_derivative_is_the_one_through_the_whole_run(settings: Any, name: str, decay: float) -> None:
    lr, make = OPTIMIZERS[name]
    learner = smooth_learner(settings, make)
    run = Run(learner, learner.raw_optimizer)
    updates = 5
    for step in range(updates):
        rate = lr * (1 - 0.1 * step)
        learner.forward_backward()
        learner.carry_tangent(rate, decay, keep_gradient=True)
        learner.update(rate)
        run.update(learner.current, rate, share=decay ** (updates - 1 - step))
    close([p.detach() for p in learner.params], [w.detach() for w in run.weights.values()], 1e-10)
    assert learner.tangent is not None
    close(learner.tangent.weights, run.tangents())
    batch = peek_meta_batch(learner)
    along, agreement = learner.validation_slopes()
    assert along == pytest.approx(run.slope(batch), rel=1e-6)
    here = {k: w.requires_grad_(True) for k, w in copies(learner).items()}
    gradient = torch.autograd.grad(loss_at(learner, here, [batch]), list(here.values()))
    kept = [(g * k).sum() for g, k in zip(gradient, learner.tangent.gradient, strict=True)]
    assert agreement == pytest.approx(float(sum(kept)), rel=1e-6)


@pytest.mark.parametrize("parts", [1, 2], ids=["one batch", "two accumulated"])
def test_curvature_is_the_hessian_of_this_very_loss(settings: Any, parts: int) -> None:
    learner = smooth_learner(settings, dropout=0.4, grad_accumulation=parts)
    names = names_of(learner)
    learner.forward_backward()
    vectors = [torch.randn_like(p) for p in learner.params]
    got = learner.curvature(vectors)

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        return loss_at(learner, dict(zip(names, weights, strict=True)), learner.current)

    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(learner.random_before)  # the same dropout masks
        _, expected = torch.autograd.functional.hvp(loss, tuple(copies(learner).values()), tuple(vectors))
    close(got, list(expected), 1e-10)


@pytest.mark.parametrize("name", ["momentum", "two groups", "adamw"])
def test_without_a_past_the_derivative_is_the_direction_and_costs_nothing(settings: Any, name: str) -> None:
    lr, make = OPTIMIZERS[name]
    learner = smooth_learner(settings, make)
    for _ in range(3):
        learner.forward_backward()
        learner.carry_tangent(lr, decay=0.0)
        assert learner.tangent is not None
        for z, d, ratio in zip(
            learner.tangent.weights, direction(learner.raw_optimizer), learner.ratio_of_each, strict=True
        ):
            assert torch.equal(z, -ratio * d)
        assert not learner.tangent.gradient
        learner.update(lr)
    assert (learner.extra_forward, learner.extra_backward) == (0, 0)


@pytest.mark.parametrize("name", ["sgd", "sgd with weight decay", "momentum", "two groups", "adam", "adamw"])
def test_the_training_slope_is_how_the_next_loss_changes_with_the_last_rate(settings: Any, name: str) -> None:
    lr, make = OPTIMIZERS[name]

    def objective(change: float) -> tuple[float, float]:
        """What the optimizer descends on the fourth batch, weight decay in the gradient included; and the slope."""
        learner = smooth_learner(settings, make)
        for step in range(3):
            learner.forward_backward()
            learner.carry_tangent(lr, decay=0.0)
            learner.update(lr + (change if step == 2 else 0.0))
        learner.forward_backward()
        loss = float(loss_at(learner, copies(learner), learner.current))
        group = learner.raw_optimizer.param_groups[0]
        if name != "adamw":
            loss += group["weight_decay"] / 2 * float(sum((p.detach() ** 2).sum() for p in learner.params))
        return loss, learner.train_slope()

    h = 1e-4 * lr
    expected = (objective(h)[0] - objective(-h)[0]) / (2 * h)
    assert objective(0.0)[1] == pytest.approx(expected, rel=1e-5)


def test_before_anything_is_carried_all_slopes_are_zero(settings: Any) -> None:
    learner = smooth_learner(settings)
    learner.forward_backward()
    assert learner.train_slope() == 0
    assert learner.validation_slopes() == (0, 0)


QUESTIONS: dict[str, Callable[[Learner], Any]] = {
    "loss_after": lambda learner: learner.loss_after(0.1),
    "losses_after": lambda learner: learner.losses_after([0.0, 0.1], 2),
    "descent": lambda learner: learner.descent(),
    "train_slope": lambda learner: learner.train_slope(),
    "validation_slopes": lambda learner: learner.validation_slopes(),
    "meta_slope": lambda learner: learner.meta_slope(0.1),
    "validation_loss": lambda learner: learner.validation_loss(),
    "carry_tangent": lambda learner: learner.carry_tangent(0.1, 1.0, keep_gradient=True),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_question_leaves_the_learner_as_it_was(settings: Any, optimizer: str, question: str) -> None:
    chosen = settings(validation_size=64, optimizer=optimizer, momentum=0.9)
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10)
    )
    learner = Learner(Task(model, build_task(chosen).data, nn.CrossEntropyLoss()), chosen)
    for _ in range(2):
        learner.forward_backward()
        learner.carry_tangent(0.01, 1.0)
        learner.update(0.01)
    learner.forward_backward()

    def everything() -> dict[str, torch.Tensor]:
        state = {k: v.clone() for k, v in learner.raw_model.state_dict().items()}
        state |= {f"gradient of {k}": p.grad.clone() for k, p in learner.raw_model.named_parameters()}
        for number, memory in learner.raw_optimizer.state_dict()["state"].items():
            state |= {f"{k} of {number}": v.clone() for k, v in memory.items()}
        return state | {"generator": torch.get_rng_state()}

    before = everything()
    QUESTIONS[question](learner)
    assert learner.raw_model.training
    after = everything()
    for name, value in before.items():
        assert torch.equal(value, after[name]), f"{name} was changed"


def test_forward_mode_costs_two_forward_and_three_backward_passes_an_update(settings: Any) -> None:
    learner = smooth_learner(settings)
    for step in range(4):
        learner.forward_backward()
        if step:
            learner.validation_slopes()
        learner.carry_tangent(0.1, decay=1.0)
        learner.update(0.1)
        assert (learner.extra_forward, learner.extra_backward) == (2 * step, 3 * step)


def test_passes_are_counted_in_images_of_an_update(settings: Any) -> None:
    learner = smooth_learner(settings, grad_accumulation=2, validation_size=12)
    learner.forward_backward()
    learner.validation_slopes()  # 12 images, an update sees 48
    assert (learner.extra_forward, learner.extra_backward) == (0.25, 0.25)
    learner.curvature([torch.zeros_like(p) for p in learner.params])
    assert (learner.extra_forward, learner.extra_backward) == (1.25, 2.25)
    learner.losses_after([0.1, 0.2, 0.3], 2)  # three times two batches of 24
    assert learner.extra_forward == 1.25 + 3


def test_the_derivative_is_saved_with_the_learner(settings: Any, tmp_path: Any) -> None:
    whole, parts = smooth_learner(settings, momentum=0.9), smooth_learner(settings, momentum=0.9)

    def go(learner: Learner, updates: int) -> None:
        for _ in range(updates):
            learner.forward_backward()
            learner.carry_tangent(0.1, 1.0, keep_gradient=True)
            learner.update(0.1)

    go(whole, 4)
    go(parts, 2)
    torch.save(parts.state_dict(), tmp_path / "state.pt")
    resumed = smooth_learner(settings, momentum=0.9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    go(resumed, 2)
    assert isinstance(resumed.tangent, Tangent)
    assert whole.tangent is not None
    for one, other in zip(resumed.tangent.weights, whole.tangent.weights, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(resumed.tangent.gradient, whole.tangent.gradient, strict=True):
        assert torch.equal(one, other)
    for here, there in zip(resumed.tangent.slots, whole.tangent.slots, strict=True):
        assert torch.equal(here["buffer"], there["buffer"])


def test_clipped_gradients_have_no_derivative(settings: Any) -> None:
    learner = smooth_learner(settings, grad_clip=1.0)
    learner.forward_backward()
    learner.carry_tangent(0.1, decay=0.0)
    with pytest.raises(UsageError, match="--grad-clip"):
        learner.carry_tangent(0.1, decay=1.0)


def test_losses_after_are_those_of_the_weights_after_the_update(settings: Any) -> None:
    asked = smooth_learner(settings, momentum=0.9)
    asked.forward_backward()
    asked.update(0.1)
    asked.forward_backward()
    rates = [0.0, 0.05, 0.3]
    answers = asked.losses_after(rates, 2)
    batches = asked.data.train_batches("train", asked.batch_size, asked.settings.seed, 10**9 + asked.step)
    chosen = [next(batches), next(batches)]
    assert not any(torch.equal(x, asked.current[0][0]) for x, _ in chosen), "they are other batches than this one"
    state = copy.deepcopy((asked.raw_model.state_dict(), asked.raw_optimizer.state_dict()))
    for rate, answer in zip(rates, answers, strict=True):
        asked.update(rate)
        assert answer == pytest.approx(float(loss_at(asked, copies(asked), chosen)), rel=1e-9)
        asked.raw_model.load_state_dict(state[0])
        asked.raw_optimizer.load_state_dict(copy.deepcopy(state[1]))  # it steps in what it is given


def test_attention_is_differentiated_twice(settings: Any) -> None:
    run = settings(model="vit-mini", schedule="rtho", batch_size=8)
    learner = Learner(build_task(run), run)
    for _ in range(3):
        learner.forward_backward()
        learner.carry_tangent(0.01, decay=1.0)
        learner.update(0.01)
    assert all(math.isfinite(slope) for slope in learner.validation_slopes())
    assert learner.extra_backward == 2 * 2 + 1
