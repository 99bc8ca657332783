"""Image sets in memory: the batched crop against one image at a time, order, shards, fitting."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mlrs_cli.tasks.images import Augment, Images, Shard, crop_flip
from mlrs_cli.tasks.random import generator


def make(n: int = 50, size: int = 8, channels: int = 3, augment: Augment = Augment(2, True)) -> Images:  # noqa: B008
    pixels = torch.randint(0, 256, (n, size, size, channels), dtype=torch.uint8, generator=generator("test"))
    labels = torch.arange(n).remainder(5)
    return Images({"train": (pixels, labels), "test": (pixels[:20], labels[:20])}, 5, augment).normalised()


def test_crop_flip_is_what_it_says_one_image_at_a_time() -> None:
    pixels = make(40).splits["train"][0]
    got = crop_flip(pixels, Augment(pad=2, flip=True), generator("draw"))
    draws = generator("draw")
    shift = torch.randint(0, 5, (2, 40, 1), generator=draws)
    mirrored = torch.rand(40, 1, generator=draws) < 0.5
    for i in range(40):
        padded = F.pad(pixels[i], (0, 0, 2, 2, 2, 2))
        top, left = int(shift[0, i]), int(shift[1, i])
        expected = padded[top : top + 8, left : left + 8]
        assert torch.equal(got[i], expected.flip(1) if mirrored[i] else expected)
    assert 5 < int(mirrored.sum()) < 35


def test_without_augmentation_pixels_stay() -> None:
    pixels = make().splits["train"][0]
    assert torch.equal(crop_flip(pixels, Augment(), generator(0)), pixels)


def test_training_batches_come_in_an_order_of_seed_and_epoch_and_start_anywhere() -> None:
    data = make()
    whole = list(data.train_batches("train", 8, seed=1, epoch=2))
    assert len(whole) == 6
    late = list(data.train_batches("train", 8, seed=1, epoch=2, start=4))
    for (x, y), (u, v) in zip(whole[4:], late, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    other = next(data.train_batches("train", 8, seed=1, epoch=3))
    assert not torch.equal(other[1], whole[0][1])


def test_shards_divide_every_batch_of_the_whole() -> None:
    data = make(augment=Augment())
    whole = list(data.train_batches("train", 8, 0, 0))
    parts = [list(data.train_batches("train", 4, 0, 0, shard=Shard(rank, 2))) for rank in range(2)]
    for (x, _), (a, _), (b, _) in zip(whole, *parts, strict=True):
        assert torch.equal(x, torch.cat([a, b]))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_test_batches_have_every_image_once(world: int) -> None:
    data = make()
    labels = [y for rank in range(world) for _, y in data.test_batches("test", 3, Shard(rank, world))]
    assert sorted(torch.cat(labels).tolist()) == sorted(data.splits["test"][1].tolist())


def test_batches_are_normalised_and_channels_last() -> None:
    data = make(5000)
    x = torch.cat([x for x, _ in data.test_batches("train", 1000)])
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.mean((0, 2, 3)).abs().max() < 0.01
    assert (x.std((0, 2, 3)) - 1).abs().max() < 0.01


def test_batches_are_fitted_to_the_model() -> None:
    x, _ = next(make(channels=1).fitted(3, 16).train_batches("train", 4, 0, 0))
    assert x.shape == (4, 3, 16, 16)
    assert torch.equal(x[:, 0], x[:, 2])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_validation_is_taken_out_of_training() -> None:
    data = make().held_out(10, seed=0)
    assert (data.count("train"), data.count("validation"), data.count("test")) == (40, 10, 20)
    rows = {split: {tuple(x.flatten().tolist()) for x in data.splits[split][0]} for split in ("train", "validation")}
    assert not rows["train"] & rows["validation"]
