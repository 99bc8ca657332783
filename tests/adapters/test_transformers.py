"""A real Trainer on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="an optional package")
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from mlrs_cli.adapters.transformers import MLRCallback
from mlrs_cli.errors import UsageError
from mlrs_cli.export.replay import replay
from mlrs_cli.zoo.reference import resolve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
ZOO = "cifar10-resnet18"


class Words(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": torch.tensor([i % 7, (3 * i) % 11, 5]), "labels": i % 2}


class Losses(MLRCallback):
    """Also keeps what it gave to the schedule and what it got."""

    heard: list[float]
    rates: list[float]

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        mean = torch.stack(self.losses).sum() / (1 if self.whole else len(self.losses))
        self.heard = [*getattr(self, "heard", []), float(mean)]
        super().on_pre_optimizer_step(*args, **kwargs)
        self.rates = [*getattr(self, "rates", []), kwargs["optimizer"].param_groups[0]["lr"]]


def trainer(out: Path, callback: MLRCallback, **more: Any) -> Trainer:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, num_labels=2, **shape))
    options = {"max_steps": 8, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant", "optim": "sgd"} | more
    arguments = TrainingArguments(
        output_dir=str(out),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        save_steps=4,
        **options,
    )
    return Trainer(model=model, args=arguments, train_dataset=Words(), callbacks=[callback])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_update_has_the_rate_of_its_own_loss(tmp_path: Path, accumulation: int) -> None:
    callback = Losses(ZOO, num_classes=2)
    run = trainer(tmp_path, callback, gradient_accumulation_steps=accumulation)
    result = run.train()
    assert len(callback.heard) == 8
    assert callback.rates == pytest.approx(replay(resolve(ZOO).schedule, callback.heard, 2))
    assert result.training_loss == pytest.approx(sum(callback.heard) / 8, rel=1e-4)


def test_a_checkpoint_continues_the_schedule(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a", MLRCallback(ZOO, num_classes=2))
    whole.train()
    checkpoint = tmp_path / "a" / "checkpoint-4"
    again = trainer(tmp_path / "b", MLRCallback(ZOO, num_classes=2), restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(checkpoint))
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(UsageError, match="restore_callback_states_from_checkpoint"):
        trainer(tmp_path / "c", MLRCallback(ZOO, num_classes=2)).train(resume_from_checkpoint=str(checkpoint))
