"""Randomness by address instead of by state: every draw is seeded by what it is for.

The order of an epoch depends on (seed, epoch), the augmentation of a batch on (seed, epoch, batch). So a resumed run
needs no generator to continue, and two schedules under one seed see the same images in the same order.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["generator", "order"]


def generator(*address: int | str) -> torch.Generator:
    """A CPU generator seeded by `address`."""
    digest = hashlib.blake2b(repr(address).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def order(size: int, seed: int, epoch: int, split: str) -> Tensor:
    """Permutation of `size` examples for one epoch of a split."""
    return torch.randperm(size, generator=generator("order", split, seed, epoch))
