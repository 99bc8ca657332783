"""What two processes run for test_processes.py under Lightning's or Transformers' Trainer; each notes losses and rates."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from torch import distributed, nn

ZOO = "cifar10-resnet18"
LOSSES: list[float] = []
RATES: list[float] = []


def lightning() -> None:
    from lightning.pytorch import LightningModule, Trainer

    from mlrs_cli.adapters.lightning import MLRCallback

    class Small(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = nn.Linear(4, 3)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            LOSSES.append(float(loss.detach()))
            return loss

        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            super().optimizer_step(*args, **kwargs)
            RATES.append(self.trainer.optimizers[0].param_groups[0]["lr"])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    draws = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4, generator=draws), torch.arange(64) % 3)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, callbacks=[MLRCallback(ZOO, num_classes=3)], **quiet
    )
    trainer.fit(Small(), torch.utils.data.DataLoader(data, batch_size=4))


def transformers() -> None:
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from mlrs_cli.adapters.transformers import MLRCallback

    class Noting(MLRCallback):
        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            LOSSES.append(float(torch.stack(self.losses).mean()))
            super().on_pre_optimizer_step(*args, **kwargs)
            RATES.append(kwargs["optimizer"].param_groups[0]["lr"])

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, num_labels=2, **shape))
    data = [{"input_ids": torch.tensor([i % 7, (3 * i) % 11, 5]), "labels": i % 2} for i in range(64)]
    arguments = TrainingArguments(
        "out", max_steps=8, per_device_train_batch_size=4, report_to=[], use_cpu=True, lr_scheduler_type="constant", optim="sgd",
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=data, callbacks=[Noting(ZOO, num_classes=3)]).train()


if __name__ == "__main__":
    {"lightning": lightning, "transformers": transformers}[sys.argv[1]]()
    with open(f"rates-{os.environ['RANK']}.json", "w") as file:
        json.dump([RATES, LOSSES], file)
    if distributed.is_initialized():
        distributed.destroy_process_group()
