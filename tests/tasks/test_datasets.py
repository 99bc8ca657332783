"""Data sets by name, from files laid out as they are published."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from mlrs_cli.errors import MLRSError, NotFoundError
from mlrs_cli.tasks.datasets import IN_MEMORY, data_root, dataset_names, load_dataset
from mlrs_cli.tasks.images import Images
from mlrs_cli.tasks.streamed import STREAMED, Streamed


def test_digits_has_two_disjoint_parts_and_all_classes() -> None:
    data = load_dataset("digits")
    assert isinstance(data, Images)
    assert (data.count("train"), data.count("test")) == (1442, 355)
    assert data.shape == (1, 8)
    assert data.splits["test"][1].bincount().min() >= 34


def cifar_file(path: Path, labels: list[int], coarse: bool) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    heads = np.array([[9, y] if coarse else [y] for y in labels], np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([heads, pixels.reshape(len(labels), -1)], 1).tofile(path)
    return pixels


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_in_its_binary_layout(tmp_path: Path, classes: int) -> None:
    root = tmp_path / "data" / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if classes == 10 else ["train.bin"]
    for name in names:
        pixels = cifar_file(root / name, [3, 7, 1], classes == 100)
    cifar_file(root / ("test_batch.bin" if classes == 10 else "test.bin"), [2, 4], classes == 100)
    data = load_dataset(f"cifar{classes}")
    assert isinstance(data, Images)
    assert data.num_classes == classes
    assert data.splits["train"][1].tolist() == [3, 7, 1] * len(names)
    assert data.splits["test"][1].tolist() == [2, 4]
    assert np.array_equal(data.splits["train"][0][0].numpy().transpose(2, 0, 1), pixels[0])


def test_a_broken_cifar_file_is_said(tmp_path: Path) -> None:
    root = tmp_path / "data" / "cifar-10-batches-bin"
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        cifar_file(root / name, [1], False)
    (root / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(MLRSError, match="is not whole"):
        load_dataset("cifar10")


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def test_mnist_as_torchvision_lays_it(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("t10k", 5)):
        idx(tmp_path / f"data/MNIST/raw/{part}-images-idx3-ubyte", np.full((count, 28, 28), 7, np.uint8))
        idx(tmp_path / f"data/MNIST/raw/{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    data = load_dataset("mnist")
    assert (data.count("train"), data.count("test"), data.shape) == (12, 5, (1, 28))


def test_missing_data_is_one_sentence_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    with pytest.raises(NotFoundError, match=r"'KMNIST' is not in .*data.*\(.*\).*run python -c .*KMNIST.*--data-dir"):
        load_dataset("kmnist")


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'cifar10'"):
        load_dataset("cifar-10")


def test_where_data_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_root("~/x") == Path.home() / "x"
    monkeypatch.setenv("MLRS_DATA", "/somewhere")
    assert data_root(None) == Path("/somewhere")
    monkeypatch.delenv("MLRS_DATA")
    assert data_root(None) == Path.home() / ".cache/mlrs/data"


@pytest.mark.parametrize("name", STREAMED)
def test_torchvision_knows_the_keywords_of_every_streamed_set(name: str) -> None:
    class_name, train, test = STREAMED[name]
    signature = inspect.signature(getattr(datasets, class_name))
    for keywords in (train, test):
        signature.bind("root", download=False, **keywords)


def test_names_are_distinct() -> None:
    assert len(set(dataset_names())) == len(IN_MEMORY) + len(STREAMED) + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            for i in range(10):
                path = tmp_path / "pets" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(100 * label + i).integers(0, 128, (40, 60, 3), dtype=np.uint8)
                Image.fromarray(noise + np.uint8(100 * label)).save(path)
    return tmp_path / "pets"


def test_a_folder_with_two_parts(folder: Path) -> None:
    data = load_dataset(f"folder:{folder}", image_size=16)
    assert isinstance(data, Streamed)
    held = data.held_out(4, seed=0)
    assert [held.count(s) for s in ("train", "validation", "test")] == [16, 4, 20]
    x, y = next(held.train_batches("train", 8, 0, 0))
    assert x.shape == (8, 3, 16, 16)
    assert set(y.tolist()) <= {0, 1}
    again = next(held.train_batches("train", 8, 0, 0))
    assert torch.equal(x, again[0])
    later = list(held.train_batches("train", 8, 0, 0, start=1))
    assert torch.equal(later[0][0], list(held.train_batches("train", 8, 0, 0))[1][0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_change_nothing(folder: Path) -> None:
    data = load_dataset(f"folder:{folder}", image_size=16)
    assert isinstance(data, Streamed)
    alone = list(data.train_batches("train", 8, 0, 0))
    helped = list(Streamed(data.sources, 2, 16, workers=2).train_batches("train", 8, 0, 0))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_a_folder_of_classes_alone_is_divided(folder: Path) -> None:
    data = load_dataset(f"folder:{folder / 'train'}", image_size=16)
    assert (data.count("train"), data.count("test")) == (16, 4)
    assert isinstance(data, Streamed)
    assert not set(data.sources["train"][1].tolist()) & set(data.sources["test"][1].tolist())


def test_an_image_that_is_none_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"no image")
    data = load_dataset(f"folder:{folder}", image_size=16)
    with pytest.raises(MLRSError, match=r"image 3 .*3\.png"):
        list(data.train_batches("train", 4, 0, 0))


def test_folders_that_are_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no images"):
        load_dataset(f"folder:{tmp_path / 'empty'}")
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(NotFoundError, match="differ in their classes: dog, wolf"):
        load_dataset(f"folder:{folder}")
