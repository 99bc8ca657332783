"""Small image sets, whole in memory, augmented a batch at a time without worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mlrs_cli.tasks.holdout import hold_out
from mlrs_cli.tasks.random import generator, order

__all__ = ["ALONE", "Augment", "Batch", "Images", "Shard", "Split"]

Batch = tuple[Tensor, Tensor]
Split = str  # "train", "validation" or "test"


@dataclass(frozen=True)
class Shard:
    """The part of the batches that one process takes."""

    rank: int = 0
    world: int = 1


ALONE = Shard()


@dataclass(frozen=True)
class Augment:
    """Zero-pad by `pad` and crop back at a random place; mirror half of the images if `flip`."""

    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Images:
    """A classification data set held as bytes.

    Args:
        splits: per split, pixels of shape (n, height, width, channels), uint8, and labels of shape (n,), int64.
        num_classes: C.
        augment: what training batches go through.
        size: side in pixels that batches are resized to; the pixels' own by default.
        channels: 3 repeats a grey image for models that read colour; the pixels' own by default.
        device: where batches are made; keep the pixels there.
    """

    splits: Mapping[Split, tuple[Tensor, Tensor]]
    num_classes: int
    augment: Augment = Augment()
    size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def count(self, split: Split) -> int:
        """Examples of a split; 0 where there is none."""
        return len(self.splits[split][1]) if split in self.splits else 0

    @property
    def shape(self) -> tuple[int, int]:
        """(channels, side) of the batches."""
        _, height, _, channels = self.splits["train"][0].shape
        return self.channels or channels, self.size or height

    def held_out(self, count: int, seed: int) -> Images:
        """The same set with `count` training examples moved, class-balanced, to the split `validation`."""
        pixels, labels = self.splits["train"]
        kept, out = hold_out(labels, count, seed)
        splits = {**self.splits, "train": (pixels[kept], labels[kept])}
        if count:
            splits["validation"] = (pixels[out], labels[out])
        return replace(self, splits=splits).normalised()

    def normalised(self) -> Images:
        """The same set with mean and deviation per channel measured on the training split."""
        pixels = self.splits["train"][0]
        sample = pixels[:: max(1, len(pixels) // 5000)].double() / 255
        mean, std = sample.mean((0, 1, 2)), sample.std((0, 1, 2)).clamp_min(1e-3)
        return replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def fitted(self, channels: int, size: int) -> Images:
        """The same set with batches of that many channels and pixels."""
        return replace(self, channels=channels, size=size)

    def to(self, device: torch.device) -> Images:
        """The same set with its pixels on a device."""
        return replace(self, splits={k: (x.to(device), y.to(device)) for k, (x, y) in self.splits.items()})

    def train_batches(
        self, split: Split, batch_size: int, seed: int, epoch: int, start: int = 0, shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Augmented full batches of one epoch from batch `start` on, in the order of (seed, epoch)."""
        pixels, labels = self.splits[split]
        places = order(len(labels), seed, epoch, split)
        for number in range(start, len(labels) // (batch_size * shard.world)):
            first = (number * shard.world + shard.rank) * batch_size
            chosen = places[first : first + batch_size].to(labels.device)
            draws = generator("augment", split, seed, epoch, number, shard.rank)
            yield self.finish(crop_flip(pixels[chosen], self.augment, draws)), labels[chosen]

    def test_batches(self, split: Split, batch_size: int, shard: Shard = ALONE) -> Iterator[Batch]:
        """Every example of this shard once, in order, as it is."""
        pixels, labels = self.splits[split]
        for first in range(shard.rank * batch_size, len(labels), batch_size * shard.world):
            yield self.finish(pixels[first : first + batch_size]), labels[first : first + batch_size]

    def finish(self, pixels: Tensor) -> Tensor:
        """Bytes (n, h, w, c) → normalised floats (n, c, h, w) in channels-last layout."""
        assert self.mean, "normalise the set before taking batches"
        assert self.std
        mean, std = (pixels.new_tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        x = pixels.float().mul_(1 / (255 * std)).sub_(mean / std).permute(0, 3, 1, 2)
        if self.size and self.size != x.shape[-1]:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=False)
        if self.channels and self.channels != x.shape[1]:
            x = x.expand(-1, self.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        return x


def crop_flip(pixels: Tensor, augment: Augment, draws: torch.Generator) -> Tensor:
    """Crop and mirror each image of a batch by its own draw; one gather for the whole batch.

    Args:
        pixels: shape (n, h, w, c), any type.
        augment: how far and whether.
        draws: a CPU generator.
    """
    n, height, width, _ = pixels.shape
    columns = torch.arange(width).expand(n, width)
    rows = torch.arange(height).expand(n, height)
    if augment.pad:
        pixels = F.pad(pixels, (0, 0, augment.pad, augment.pad, augment.pad, augment.pad))
        shift = torch.randint(0, 2 * augment.pad + 1, (2, n, 1), generator=draws)
        rows, columns = rows + shift[0], columns + shift[1]
    if augment.flip:
        columns = torch.where(torch.rand(n, 1, generator=draws) < 0.5, columns.flip(1), columns)
    if not augment.pad and not augment.flip:
        return pixels
    images = torch.arange(n)[:, None, None]
    device = pixels.device
    return pixels[images.to(device), rows[:, :, None].to(device), columns[:, None, :].to(device)]
