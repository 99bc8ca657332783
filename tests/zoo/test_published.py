"""The authors' checkpoints as an entry."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.schedules.contract import Observation
from mlrs_cli.schedules.mlr_snet import HIDDEN, sigma_step
from mlrs_cli.zoo.published import LAYERS, import_checkpoints, read_checkpoint


def theirs(path: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint as the authors' code writes it, with random weights."""
    from mlrs_cli.meta.network import Network

    torch.manual_seed(seed)
    names = {ours: layer for layer, ours in LAYERS.items()}
    state = {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in Network().state_dict().items()}
    torch.save(state, path)
    return state


def test_the_published_snapshots_answer_as_published(reference: Path, golden: Any, tmp_path: Path) -> None:
    epochs = ("1", "100", "200")
    files = [reference / f"snapshot-{epoch}.pth" for epoch in epochs]
    schedule: Any = import_checkpoints(files, (0, 1 / 3, 2 / 3), "published", tmp_path / "entry").schedule()
    assert schedule.cell == "transfer"
    for stage, epoch in zip(schedule.stages, epochs, strict=True):
        h = c = np.zeros(HIDDEN)
        for loss, expected in zip(golden["loss"], golden["sigma_transfer_cell"][epoch], strict=True):
            sigma, h, c = sigma_step(stage.weights, schedule.cell, loss, h, c)
            assert sigma == pytest.approx(expected, abs=1e-6)


def test_stages_and_scale_are_as_asked(tmp_path: Path) -> None:
    for i in range(2):
        theirs(tmp_path / f"{i}.pth", i)
    entry = import_checkpoints(
        [tmp_path / "0.pth", tmp_path / "1.pth"], (0, 0.5), "x", tmp_path / "x", cell="meta-train"
    )
    schedule: Any = entry.schedule()
    assert (schedule.cell, schedule.gamma_measured) == ("meta-train", "every-stage")
    assert [s.start for s in schedule.stages] == [0, 0.5]
    fresh = entry.schedule()
    curve = entry.curves()[0]
    rate = fresh.lr(Observation(0, 1000, curve["loss"][0], 10))
    assert rate == pytest.approx(curve["lr"][0], rel=1e-6)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"layer3.bias": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(MLRSError, match="cannot be loaded as plain weights"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    state = theirs(tmp_path / "a.pth")
    with pytest.raises(NotFoundError, match="no file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    torch.save(state | {"extra.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with pytest.raises(MLRSError, match=r"extra\.weight does not fit"):
        read_checkpoint(tmp_path / "b.pth")
    torch.save(state | {"layer3.bias": torch.zeros(2)}, tmp_path / "c.pth")
    with pytest.raises(MLRSError, match=r"head\.bias does not fit"):
        read_checkpoint(tmp_path / "c.pth")
    torch.save([1, 2], tmp_path / "d.pth")
    with pytest.raises(MLRSError, match="not a dictionary of tensors"):
        read_checkpoint(tmp_path / "d.pth")
    torch.save(state | {"layer3.bias": torch.full((1,), torch.nan)}, tmp_path / "e.pth")
    with pytest.raises(MLRSError, match="not finite"):
        import_checkpoints([tmp_path / "e.pth"], [0], "e", tmp_path / "e")
    with pytest.raises(UsageError, match="1 files and 2 stages"):
        import_checkpoints([tmp_path / "a.pth"], (0, 0.5), "x", tmp_path / "x")
