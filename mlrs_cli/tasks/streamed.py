"""Large image sets, read from disk through a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.tasks.holdout import hold_out
from mlrs_cli.tasks.images import ALONE, Batch, Shard, Split
from mlrs_cli.tasks.random import generator, order

__all__ = ["STREAMED", "Streamed", "not_here", "open_folder", "open_streamed"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# name → torchvision class and the keywords of its training and test parts. Where both are the same (a set that is
# published without a test part), every fifth image of a class is for testing.
STREAMED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "caltech101": ("Caltech101", {}, {}),
    "caltech256": ("Caltech256", {}, {}),
    "country211": ("Country211", {"split": "train"}, {"split": "test"}),
    "dtd": ("DTD", {"split": "train"}, {"split": "test"}),
    "eurosat": ("EuroSAT", {}, {}),
    "fgvc-aircraft": ("FGVCAircraft", {"split": "trainval"}, {"split": "test"}),
    "flowers102": ("Flowers102", {"split": "train"}, {"split": "test"}),
    "food101": ("Food101", {"split": "train"}, {"split": "test"}),
    "gtsrb": ("GTSRB", {"split": "train"}, {"split": "test"}),
    "imagenette": ("Imagenette", {"split": "train"}, {"split": "val"}),
    "oxford-iiit-pet": ("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "pcam": ("PCAM", {"split": "train"}, {"split": "test"}),
    "rendered-sst2": ("RenderedSST2", {"split": "train"}, {"split": "test"}),
    "semeion": ("SEMEION", {}, {}),
    "stanford-cars": ("StanfordCars", {"split": "train"}, {"split": "test"}),
    "sun397": ("SUN397", {}, {}),
}


@dataclass(frozen=True)
class Streamed:
    """A classification data set of image files; the same face as `Images`.

    Args:
        sources: per split, a map-style set of (PIL image, label) and the positions in it that belong to the split.
        num_classes: C.
        size: side of the batches in pixels.
        workers: processes that decode; 0 decodes in this one.
    """

    sources: Mapping[Split, tuple[Dataset[Any], Tensor]]
    num_classes: int
    size: int = 224
    channels: int = 3
    workers: int = 0
    device: torch.device | None = None

    def count(self, split: Split) -> int:
        """Examples of a split; 0 where there is none."""
        return len(self.sources[split][1]) if split in self.sources else 0

    @property
    def shape(self) -> tuple[int, int]:
        """(channels, side) of the batches."""
        return self.channels, self.size

    def held_out(self, count: int, seed: int) -> Streamed:
        """The same set with `count` training examples moved, class-balanced, to the split `validation`."""
        source, positions = self.sources["train"]
        kept, out = hold_out(labels_of(source)[positions], count, seed)
        sources = {**self.sources, "train": (source, positions[kept])}
        if count:
            sources["validation"] = (source, positions[out])
        return replace(self, sources=sources)

    def fitted(self, channels: int, size: int) -> Streamed:
        """The same set with batches of that many channels and pixels."""
        return replace(self, channels=channels, size=size)

    def to(self, device: torch.device) -> Streamed:
        """The same set with its batches on a device."""
        return replace(self, device=device)

    def train_batches(
        self, split: Split, batch_size: int, seed: int, epoch: int, start: int = 0, shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Augmented full batches of one epoch from batch `start` on, in the order of (seed, epoch)."""
        positions = self.sources[split][1]
        places = positions[order(len(positions), seed, epoch, split)]
        batches = [
            places[(k * shard.world + shard.rank) * batch_size :][:batch_size]
            for k in range(start, len(places) // (batch_size * shard.world))
        ]
        yield from self.load(split, batches, (split, seed, epoch))

    def test_batches(self, split: Split, batch_size: int, shard: Shard = ALONE) -> Iterator[Batch]:
        """Every example of this shard once, in order, resized and cropped at the centre."""
        positions = self.sources[split][1]
        chunks = list(torch.split(positions, batch_size))[shard.rank :: shard.world]
        yield from self.load(split, chunks, None)

    def load(self, split: Split, batches: list[Tensor], address: tuple[str, int, int] | None) -> Iterator[Batch]:
        """Decode the given batches in the worker processes and normalise them here."""
        loader: DataLoader[Any] = DataLoader(
            Transformed(self.sources[split][0], self.size, address),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers,
            generator=generator("workers"),  # its own, so that no draw is taken from the learner's
            pin_memory=self.device is not None and self.device.type == "cuda",
        )
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        if self.channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        for pixels, labels in loader:
            x = pixels.to(self.device, non_blocking=True)
            x = x.float().mean(1, keepdim=True) if self.channels == 1 else x.float()
            x = x.div_(255).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
            yield x, labels.to(self.device)


class Transformed(Dataset[tuple[Tensor, int]]):
    """Decode one image to bytes (3, size, size); the random crop is drawn from the image's own address."""

    def __init__(self, source: Dataset[Any], size: int, address: tuple[str, int, int] | None) -> None:
        from torchvision.transforms import v2

        self.source, self.address = source, address
        if address:
            steps: list[Any] = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
        else:
            steps = [v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)]
        self.transform = v2.Compose([v2.RGB(), *steps, v2.PILToTensor()])

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        try:
            image, label = self.source[place]
        except OSError as error:  # what PIL raises for a file that is no image, too
            raise MLRSError(f"image {place} of the data set cannot be read: {error}") from error
        with torch.random.fork_rng(devices=[]):
            if self.address:
                torch.default_generator.manual_seed(generator("augment", *self.address, place).initial_seed())
            return self.transform(image), int(label)


def labels_of(source: Dataset[Any]) -> Tensor:
    """Labels of a torchvision set, without decoding an image where the set keeps them apart."""
    for name in ("targets", "_labels", "labels", "y"):
        found = getattr(source, name, None)
        if found is not None and len(found):
            return torch.as_tensor([int(v) for v in found])
    pairs = getattr(source, "_samples", None) or [source[i] for i in range(len(source))]  # type: ignore[arg-type]
    return torch.as_tensor([int(label) for _, label in pairs])


def apart(train: Dataset[Any], test: Dataset[Any] | None, size: int) -> Streamed:
    """The two parts of a published set, or every fifth image of each class of its only part for testing."""
    labels = labels_of(train)
    if test is not None:
        sources = {"train": (train, torch.arange(len(labels))), "test": (test, torch.arange(len(test)))}  # type: ignore[arg-type]
        return Streamed(sources, int(labels.max()) + 1, size)
    fifth = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        fifth[(labels == label).nonzero().squeeze(1)[4::5]] = True
    sources = {"train": (train, (~fifth).nonzero().squeeze(1)), "test": (train, fifth.nonzero().squeeze(1))}
    return Streamed(sources, int(labels.max()) + 1, size)


def not_here(name: str, root: Path) -> NotFoundError:
    """The error of a set that is not on disk and must not be fetched."""
    return NotFoundError(f"data set '{name}' is not in {root}: a run would download it, --dry-run does not")


def open_streamed(name: str, root: Path, size: int, download: bool = True) -> Streamed:
    """A torchvision set of image files, downloaded where it is not there."""
    from torchvision import datasets

    class_name, train, test = STREAMED[name]
    make = getattr(datasets, class_name)
    parts = []
    for keywords in [train] if train == test else [train, test]:
        try:
            parts.append(make(str(root), **keywords))
        except (RuntimeError, FileNotFoundError):
            if not download:
                raise not_here(name, root) from None
            parts.append(make(str(root), download=True, **keywords))
    return apart(parts[0], parts[1] if len(parts) > 1 else None, size)


def open_folder(path: Path, size: int) -> Streamed:
    """A folder of images, one sub-folder a class; with train/ and test/ or val/ in it, these are the parts."""
    from torchvision.datasets import ImageFolder

    if not path.is_dir():
        raise NotFoundError(f"no folder {path}: folder:PATH takes a folder with one sub-folder of images a class")
    test = next((path / n for n in ("test", "val", "validation") if (path / n).is_dir()), None)
    both = test is not None and (path / "train").is_dir()
    try:
        train_set = ImageFolder(path / "train" if both else path)
        test_set = ImageFolder(test) if both else None
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} holds no images in sub-folders, one a class: {error}") from error
    if test_set is not None and test_set.classes != train_set.classes:
        odd = sorted(set(test_set.classes) ^ set(train_set.classes))
        raise NotFoundError(f"the parts of {path} differ in their classes: {', '.join(odd[:5])}")
    return apart(train_set, test_set, size)
