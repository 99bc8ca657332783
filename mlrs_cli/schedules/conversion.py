"""A learning rate that was learned with one optimizer, for use with another."""

from __future__ import annotations

__all__ = ["USUAL", "rate_factor"]

USUAL = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}  # what practice starts from


def rate_factor(learned: str, learned_momentum: float, used: str, used_momentum: float) -> float:
    """What to multiply a rate with when it moves from the optimizer it was learned with to the one in use.

    A rule of thumb, not part of any paper: momentum m lengthens SGD's steps by 1/(1 − m), so the rate shrinks as much;
    between SGD and Adam the rates stand as the usual first guesses do, 0.1 to 0.001.

    >>> round(rate_factor("sgd", 0.0, "sgd", 0.9), 6)
    0.1
    >>> rate_factor("sgd", 0.0, "adamw", 0.9)
    0.01
    """
    if learned == used == "sgd":
        return (1 - used_momentum) / (1 - learned_momentum)
    return USUAL[used] / USUAL[learned]
