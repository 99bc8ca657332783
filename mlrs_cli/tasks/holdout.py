"""Class-balanced examples held out of the training set, for validation or as meta data."""

from __future__ import annotations

import torch
from torch import Tensor

from mlrs_cli.errors import UsageError
from mlrs_cli.tasks.random import generator

__all__ = ["hold_out"]


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into (kept, held out): disjoint, each sorted, classes as even as `count` allows.

    Args:
        labels: class of every training example, shape (n,), integers.
        count: examples to hold out; 0 holds out none.
        seed: decides which.

    Raises:
        UsageError: `count` leaves nothing to train on.
    """
    if not 0 <= count < len(labels):
        raise UsageError(f"cannot hold {count} of {len(labels)} training examples out: at least one must be left")
    shuffled = torch.randperm(len(labels), generator=generator("hold out", seed))
    # Rank of each example within its class, in shuffled order: taking the lowest ranks first is the even split.
    ranked = torch.empty(len(labels), dtype=torch.long)
    for label in labels.bincount().nonzero().squeeze(1):
        members = shuffled[labels[shuffled] == label]
        ranked[members] = torch.arange(len(members))
    by_rank = shuffled[ranked[shuffled].argsort(stable=True)]
    return by_rank[count:].sort().values, by_rank[:count].sort().values
