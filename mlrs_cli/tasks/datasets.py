"""Data sets by name: found on disk, or downloaded by torchvision, and laid out as the learner takes them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlrs_cli.errors import MLRSError, NotFoundError, nearest
from mlrs_cli.tasks.images import Augment, Images
from mlrs_cli.tasks.streamed import STREAMED, Streamed, not_here, open_folder, open_streamed

__all__ = ["data_root", "dataset_names", "load_dataset"]

Loader = Callable[[Path, bool], Images]  # where data lies, and whether it may be downloaded
PLAIN, CROP_FLIP = Augment(), Augment(pad=4, flip=True)


def data_root(data_dir: str | None) -> Path:
    """Where data sets lie: the given folder, else $MLRS_DATA, else ~/.cache/mlrs/data."""
    return Path(data_dir or os.environ.get("MLRS_DATA") or "~/.cache/mlrs/data").expanduser()


def dataset_names() -> list[str]:
    """Every name that `load_dataset` knows, without the `folder:PATH` form."""
    return sorted(["digits", *IN_MEMORY, *STREAMED])


def load_dataset(
    name: str, data_dir: str | None = None, image_size: int | None = None, download: bool = True
) -> Images | Streamed:
    """The data set of that name with its splits `train` and `test`.

    Args:
        name: one of `dataset_names()`, or `folder:PATH` (a folder of classes, or one with train/ and val/ or test/).
        data_dir: overrides where to look, see `data_root`.
        image_size: side of the images in pixels where they must be resized; 224 for sets of large images.
        download: whether a set that is not here may be fetched.

    Raises:
        NotFoundError: no such data set, or it is not here and cannot be downloaded.
    """
    root = data_root(data_dir)
    if name.startswith("folder:"):
        return open_folder(Path(name.removeprefix("folder:")).expanduser(), image_size or 224)
    if name == "digits":
        return digits()
    if name in IN_MEMORY:
        return in_memory(name, root, download)
    if name in STREAMED:
        with fetching(name, STREAMED[name][0], root):
            return open_streamed(name, root, image_size or 224, download)
    raise NotFoundError(f"no data set '{name}': {nearest(name, dataset_names())} (your own images: folder:PATH)")


@lru_cache(maxsize=1)
def in_memory(name: str, root: Path, download: bool) -> Images:
    """A set read once in a row of runs on it."""
    return IN_MEMORY[name](root, download)


def digits() -> Images:
    """Scikit-learn's 1,797 handwritten digits, 8×8; every fifth of a class is for testing."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy((pixels.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8))
    y = torch.from_numpy(labels).long()
    test = torch.zeros(len(y), dtype=torch.bool)
    for label in range(10):
        test[(y == label).nonzero().squeeze(1)[4::5]] = True
    return Images({"train": (x[~test], y[~test]), "test": (x[test], y[test])}, 10).normalised()


def cifar(classes: int) -> Loader:
    """CIFAR-10 or CIFAR-100: the official binary layout where it is there, else torchvision's."""

    def load(root: Path, download: bool) -> Images:
        folder = root / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
        parts = [f"data_batch_{i}.bin" for i in range(1, 6)] if classes == 10 else ["train.bin"]
        test = "test_batch.bin" if classes == 10 else "test.bin"
        if not (folder / test).exists():
            return torchvision_images(f"CIFAR{classes}", CROP_FLIP)(root, download)
        halves = {"train": [folder / p for p in parts], "test": [folder / test]}
        splits = {split: cifar_records(files, classes) for split, files in halves.items()}
        return Images(splits, classes, CROP_FLIP).normalised()

    return load


def cifar_records(files: list[Path], classes: int) -> tuple[Tensor, Tensor]:
    """Records of CIFAR's binary layout: one label byte (two for 100 classes, the second counts), 3,072 of pixels."""
    head = 1 if classes == 10 else 2
    try:
        data = np.concatenate([np.fromfile(f, np.uint8) for f in files])
        records = data.reshape(-1, head + 3072)
    except (OSError, ValueError) as error:
        raise MLRSError(f"{files[0].parent} is not whole ({error}): remove the folder and fetch it again") from error
    pixels = records[:, head:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(records[:, head - 1].astype(np.int64))


def torchvision_images(
    class_name: str,
    augment: Augment = PLAIN,
    train: dict[str, Any] | None = None,
    test: dict[str, Any] | None = None,
) -> Loader:
    """Loader of a torchvision set that torchvision itself keeps in memory; the keywords choose its two parts."""

    def load(root: Path, download: bool) -> Images:
        from torchvision import datasets

        make = getattr(datasets, class_name)
        splits = {}
        for split, keywords in (("train", train or {"train": True}), ("test", test or {"train": False})):
            with fetching(class_name, class_name, root):
                try:
                    found = make(str(root), download=False, **keywords)
                except RuntimeError:
                    if not download:
                        raise not_here(class_name, root) from None
                    found = make(str(root), download=True, **keywords)
            splits[split] = pixels_and_labels(found)
        return Images(splits, int(splits["train"][1].max()) + 1, augment).normalised()

    return load


def pixels_and_labels(found: Any) -> tuple[Tensor, Tensor]:
    """The arrays behind a torchvision set: pixels (n, h, w, c) and labels (n,)."""
    data = torch.as_tensor(np.asarray(found.data))
    labels = torch.as_tensor(np.asarray(found.labels if hasattr(found, "labels") else found.targets)).long()
    if data.ndim == 3:
        data = data[..., None]
    elif data.shape[1] == 3:  # SVHN and STL-10 keep channels first
        data = data.permute(0, 2, 3, 1)
    if type(found).__name__ == "EMNIST":
        labels = labels - labels.min()  # its split `letters` counts from 1
    return data.contiguous(), labels


@contextlib.contextmanager
def fetching(name: str, class_name: str, root: Path) -> Iterator[None]:
    """Turn a missing data set into one sentence with the way out."""
    import socket
    import urllib.error

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision's downloads have no time-out of their own
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints there, and stdout is for results
            yield
    except (urllib.error.URLError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotFoundError(
            f"data set '{name}' is not in {root} and could not be downloaded ({reason}): where there is internet, run "
            f"python -c \"from torchvision.datasets import {class_name} as D; D('data', download=True)\" "
            "and pass that folder as --data-dir"
        ) from error
    except ImportError as error:
        raise MLRSError(f"data set '{name}' needs a package that is not installed: pip install {error.name}") from error
    finally:
        socket.setdefaulttimeout(before)


IN_MEMORY: dict[str, Loader] = {
    "cifar10": cifar(10),
    "cifar100": cifar(100),
    "mnist": torchvision_images("MNIST"),
    "fashion-mnist": torchvision_images("FashionMNIST", Augment(pad=2, flip=True)),
    "kmnist": torchvision_images("KMNIST"),
    "qmnist": torchvision_images("QMNIST"),
    "emnist": torchvision_images(
        "EMNIST", train={"split": "balanced", "train": True}, test={"split": "balanced", "train": False}
    ),
    "usps": torchvision_images("USPS"),
    "svhn": torchvision_images("SVHN", Augment(pad=4), {"split": "train"}, {"split": "test"}),
    "stl10": torchvision_images("STL10", Augment(pad=12, flip=True), {"split": "train"}, {"split": "test"}),
}
