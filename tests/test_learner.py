"""One update at a time: what the learner promises its schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD

from mlrs_cli.errors import UsageError
from mlrs_cli.learner import Learner
from mlrs_cli.tasks.task import build_task


def weights(learner: Learner) -> list[torch.Tensor]:
    return [p.detach().clone() for p in learner.params]


def test_accumulated_batches_are_one_large_batch(learner: Any) -> None:
    whole = learner(batch_size=32, model="mlp")
    parts = learner(batch_size=8, grad_accumulation=4, model="mlp")
    assert whole.images_per_update == parts.images_per_update
    assert whole.forward_backward() == pytest.approx(parts.forward_backward(), rel=1e-5)
    for one, other in zip(whole.params, parts.params, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_gradient_is_clipped(learner: Any) -> None:
    clipped = learner(grad_clip=0.01)
    clipped.forward_backward()
    norm = torch.cat([p.grad.flatten() for p in clipped.params]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_parameter_groups_keep_their_ratio(settings: Any) -> None:
    chosen = settings(model="mlp")
    task = build_task(chosen)
    last = list(task.model[5].parameters())
    rest = [p for p in task.model.parameters() if all(p is not q for q in last)]
    optimizer = SGD([{"params": rest, "lr": 0.1}, {"params": last, "lr": 0.01}], weight_decay=0.1)
    learner = Learner(task, chosen, optimizer)
    learner.forward_backward()
    before = weights(learner)
    with learner.displaced(0.5):
        displaced = weights(learner)
    learner.update(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])
    assert any(not torch.equal(a, b) for a, b in zip(before, displaced, strict=True))
    for now, ahead in zip(learner.params, displaced, strict=True):
        torch.testing.assert_close(now.detach(), ahead)


def test_a_tensor_learning_rate_stays_a_tensor(settings: Any) -> None:
    chosen = settings(model="mlp")
    task = build_task(chosen)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=torch.tensor(1.0))
    learner = Learner(task, chosen, optimizer)
    rate = optimizer.param_groups[0]["lr"]
    learner.forward_backward()
    learner.update(0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25


@pytest.mark.parametrize("how", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adamw"}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_after_is_the_loss_after_the_update(learner: Any, how: Any, precision: str) -> None:
    asked = learner(model="mobilenet_v3_small", precision=precision, **how)  # has BatchNorm and dropout
    for rate in (0.01, 0.001):
        asked.forward_backward()
        before, batch, random = (
            {k: v.clone() for k, v in asked.raw_model.state_dict().items()},
            asked.current,
            asked.random_before,
        )
        answer = asked.loss_after(rate)
        for name, value in asked.raw_model.state_dict().items():
            assert torch.equal(value, before[name]), f"{name} did not come back"
        assert asked.loss_after(rate) == answer
        asked.update(rate)
        with torch.no_grad():
            torch.set_rng_state(random)
            kept = {k: v.clone() for k, v in asked.raw_model.state_dict().items()}
            x, y = batch[0]
            after = float(asked.task.train_loss(asked.raw_model(x), y))
            asked.raw_model.load_state_dict(kept)
        assert answer == pytest.approx(after, rel=2e-2 if precision == "bf16" else 1e-4)


def test_bf16_keeps_weights_and_logits_in_fp32(learner: Any) -> None:
    trained = learner(model="resnet8", precision="bf16", batch_size=16)
    trained.forward_backward()
    trained.update(0.1)
    assert {p.dtype for p in trained.params} == {torch.float32}
    assert {p.grad.dtype for p in trained.params} == {torch.float32}


def test_evaluation_counts_every_image_and_leaves_the_model_alone(learner: Any) -> None:
    trained = learner(model="resnet8", batch_size=16)
    before = {k: v.clone() for k, v in trained.raw_model.state_dict().items()}
    loss, accuracy = trained.evaluate("test")
    assert accuracy * 355 == pytest.approx(round(accuracy * 355))
    assert loss > 0
    assert all(torch.equal(v, before[k]) for k, v in trained.raw_model.state_dict().items())
    assert trained.validation_loss() > 0


def test_epochs_go_over_every_image_once_and_leave_the_odd_ones_out(learner: Any) -> None:
    trained = learner(batch_size=100, epochs=2, steps=None, validation_size=42)
    assert (trained.updates_per_epoch, trained.budget) == (14, 28)
    assert learner(batch_size=5000).updates_per_epoch == 1
    assert learner(batch_size=100, limit_batches=3).updates_per_epoch == 3
    with pytest.raises(UsageError, match="fewer than"):
        learner(batch_size=1000, grad_accumulation=2).updates_per_epoch  # noqa: B018


def test_gpu_settings_without_a_gpu_are_said(learner: Any) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        learner(precision="fp16")
    with pytest.raises(UsageError, match="no device 'cuda' here"):
        learner(device="cuda")


def test_memory_stays_flat_over_meta_steps(learner: Any) -> None:
    import gc

    trained = learner(model="resnet8", batch_size=16)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    counts = []
    for _ in range(6):
        trained.forward_backward()
        trained.meta_slope(0.1)
        trained.update(0.1)
        counts.append(tensors())
    assert counts[-1] == counts[1]


def test_held_out_batches_follow_their_own_order_over_epochs_and_resumes(learner: Any) -> None:
    made = learner(validation_size=80, batch_size=32)  # two batches an epoch
    seed = made.settings.seed
    expected = [batch for epoch in range(3) for batch in made.data.train_batches("validation", 32, seed, epoch)]
    assert len(expected) == 6
    for number, (x, y) in enumerate(expected):
        if number == 3:  # within an epoch
            state = made.state_dict()
            made.next_meta_batch()
            made.load_state_dict(state)
        got = made.next_meta_batch()
        assert torch.equal(got[0], x)
        assert torch.equal(got[1], y)
