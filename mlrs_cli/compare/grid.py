"""The schedules that tuning by hand would try: a grid over peak rate and shape."""

from __future__ import annotations

from mlrs_cli.schedules.conversion import USUAL

__all__ = ["PEAKS", "SHAPES", "grid", "on_edge"]

SHAPES = ("cosine", "warmup-linear", "multistep", "knee")
PEAKS = 7  # half a decade apart, three decades about the usual rate


def peaks(optimizer: str) -> list[float]:
    """The peak rates tried with an optimizer, rising."""
    return [USUAL[optimizer] * 10 ** (k / 2) for k in range(-(PEAKS // 2), PEAKS // 2 + 1)]


def grid(optimizer: str) -> list[str]:
    """References of every schedule of the grid.

    >>> len(grid("sgd")), grid("adam")[0]
    (28, 'cosine:lr=3.162e-05')
    """
    return [f"{shape}:lr={peak:.4g}" for shape in SHAPES for peak in peaks(optimizer)]


def on_edge(reference: str, optimizer: str) -> bool:
    """Whether a schedule has the lowest or highest peak of the grid, so that a wider one might find a better."""
    rates = [f"{peak:.4g}" for peak in peaks(optimizer)]
    return reference.partition("lr=")[2] in (rates[0], rates[-1])
