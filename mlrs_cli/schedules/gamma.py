"""The scale γ of a task in MLR-SNet's learning rate α = γ·σ."""

from __future__ import annotations

import math

from mlrs_cli.errors import DivergedError, UsageError

__all__ = ["LEAST_PRODUCT", "gamma"]

LEAST_PRODUCT = 1.25


def gamma(initial_loss: float, num_classes: int) -> float:
    """γ = √L · ln(L·C) / C^¼ / 4, from the loss L at initialisation and the number of classes C.

    The published formula is zero at L = 1/C, negative below and undefined at 0. An untrained classifier sits at
    L ≈ ln C, far above; a model that already fits its data may not. Here L is never taken below 1.25/C, so γ stays
    positive and never falls when L rises (the authors' transfer code takes the absolute value, which lets γ *grow* as
    the loss falls towards zero).

    >>> round(gamma(2.302585, 10), 4)
    0.6691

    Args:
        initial_loss: mean training loss L in nats before the first update (perplexity for language models).
        num_classes: C ≥ 2, or the vocabulary size.

    Raises:
        DivergedError: L is not a finite number.
        UsageError: C < 2.
    """
    if not math.isfinite(initial_loss):
        raise DivergedError(f"the loss before the first update is {initial_loss}, so the schedule has no scale")
    if num_classes < 2:
        raise UsageError(f"MLR-SNet's scale needs a task of 2 or more classes, got {num_classes}")
    loss = max(initial_loss, LEAST_PRODUCT / num_classes)
    return math.sqrt(loss) * math.log(loss * num_classes) / math.sqrt(math.sqrt(num_classes)) / 4
