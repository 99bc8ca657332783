"""Held-out examples: disjoint, even over the classes, the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from mlrs_cli.errors import UsageError
from mlrs_cli.tasks.holdout import hold_out

LABELS = torch.arange(1000).remainder(10)


def test_the_parts_are_disjoint_and_together_everything() -> None:
    kept, out = hold_out(LABELS, 205, seed=0)
    assert len(out) == 205
    assert torch.equal(torch.cat([kept, out]).sort().values, torch.arange(1000))


def test_classes_are_even() -> None:
    _, out = hold_out(LABELS, 205, seed=0)
    counts = LABELS[out].bincount()
    assert counts.max() - counts.min() <= 1


def test_rare_classes_are_not_emptied_for_the_sake_of_others() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    _, out = hold_out(labels, 10, seed=0)
    assert labels[out].bincount().tolist() == [5, 5]


def test_the_seed_decides() -> None:
    assert torch.equal(hold_out(LABELS, 100, 1)[1], hold_out(LABELS, 100, 1)[1])
    assert not torch.equal(hold_out(LABELS, 100, 1)[1], hold_out(LABELS, 100, 2)[1])


def test_nothing_or_almost_everything() -> None:
    assert len(hold_out(LABELS, 0, 0)[1]) == 0
    assert len(hold_out(LABELS, 999, 0)[0]) == 1
    with pytest.raises(UsageError, match="1000 of 1000"):
        hold_out(LABELS, 1000, 0)
