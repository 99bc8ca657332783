"""A real `Trainer.fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="an optional package")
from lightning.pytorch import LightningModule, Trainer

from mlrs_cli.adapters.lightning import MLRCallback
from mlrs_cli.errors import UsageError
from mlrs_cli.export.replay import replay
from mlrs_cli.zoo.reference import resolve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
ZOO = "cifar10-resnet18"


class Small(LightningModule):
    def __init__(self, schedulers: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model, self.schedulers = nn.Linear(4, 3), schedulers
        self.seen: list[float] = []
        self.rates: list[float] = []

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.seen.append(float(loss.detach()))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        if self.schedulers:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
        return optimizer


def data() -> Any:
    draws = torch.Generator().manual_seed(0)
    pairs = torch.utils.data.TensorDataset(torch.randn(32, 4, generator=draws), torch.arange(32) % 3)
    return torch.utils.data.DataLoader(pairs, batch_size=4)


def trainer(callback: MLRCallback, **more: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", devices=1, callbacks=[callback], **(quiet | {"max_epochs": 2} | more))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_update_has_the_rate_of_its_own_loss(accumulation: int) -> None:
    module = Small()
    trainer(MLRCallback(ZOO, num_classes=3), accumulate_grad_batches=accumulation).fit(module, data())
    k = accumulation
    losses = [sum(module.seen[i : i + k]) / k for i in range(0, len(module.seen), k)]
    assert len(module.rates) == 16 // accumulation
    assert module.rates == pytest.approx(replay(resolve(ZOO).schedule, losses, 3), rel=1e-5)


def test_an_update_of_fewer_batches_hears_their_mean() -> None:
    module = Small()
    trainer(MLRCallback(ZOO, num_classes=3), accumulate_grad_batches=3, max_epochs=1).fit(module, data())
    s = module.seen
    losses = [sum(s[:3]) / 3, sum(s[3:6]) / 3, sum(s[6:]) / 2]
    assert module.rates == pytest.approx(replay(resolve(ZOO).schedule, losses, 3), rel=1e-5)


def test_a_scaled_loss_is_heard_as_it_is() -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    module, scaler = Small(), torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    trainer(MLRCallback(ZOO, num_classes=3), plugins=[plugin], max_epochs=1).fit(module, data())
    assert module.rates == pytest.approx(replay(resolve(ZOO).schedule, module.seen, 3), rel=1e-3)


def test_a_checkpoint_continues_the_schedule(tmp_path: Path) -> None:
    whole = Small()
    trainer(MLRCallback(ZOO, num_classes=3)).fit(whole, data())
    first = trainer(MLRCallback(ZOO, num_classes=3, total_steps=16), max_epochs=1)
    first.fit(Small(), data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    second = Small()
    trainer(MLRCallback(ZOO, num_classes=3)).fit(second, data(), ckpt_path=str(tmp_path / "half.ckpt"))
    assert second.rates == whole.rates[8:]
    assert torch.equal(second.model.weight, whole.model.weight)


def test_a_second_scheduler_is_refused() -> None:
    with pytest.raises(UsageError, match="scheduler of its own"):
        trainer(MLRCallback(ZOO, num_classes=3)).fit(Small(schedulers=True), data())
