"""What two processes run for test_processes.py; prints each process's rates."""

from __future__ import annotations

import json
import sys

import torch
from accelerate import Accelerator
from torch import distributed, nn

from mlrs_cli.adapters.timm import TimmScheduler
from mlrs_cli.adapters.torch import MLRScheduler

ZOO = "cifar10-resnet18"


def main() -> None:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    kind = sys.argv[1]
    scheduler = (MLRScheduler if kind == "torch" else TimmScheduler).from_zoo(ZOO, optimizer.optimizer, 8, 3)
    torch.manual_seed(accelerator.process_index)  # every process sees its own data, and so its own loss
    rates, losses = [], []
    for step in range(8):
        loss = nn.functional.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 3, (4,)))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        accelerator.backward(loss)
        if kind == "torch":
            scheduler.step(loss)
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if kind == "timm":
            scheduler.step_update(step + 1, metric=loss)
    with open(f"rates-{accelerator.process_index}.json", "w") as file:
        json.dump([rates, losses], file)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
