"""The errors users see.

A message is one sentence that says what is wrong, with the value, and the way out. The class decides the exit code.

    MLRSError          1  it failed
    ├── UsageError     2  the call's words or settings are off
    ├── NotFoundError  3  no such schedule, model, data set or run
    ├── NetworkError   4  the network is needed and not there
    ├── DivergedError  5  the training loss is no longer a finite number
    └── InterruptedRunError 130  the user stopped a run
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "DivergedError",
    "InterruptedRunError",
    "MLRSError",
    "NetworkError",
    "NotFoundError",
    "UsageError",
    "nearest",
]


class MLRSError(Exception):
    """Root of every error that `mlrs` raises on purpose."""

    exit_code = 1


class UsageError(MLRSError):
    """The call's words or settings are off."""

    exit_code = 2


class NotFoundError(MLRSError):
    """A schedule, model, data set or run of that name does not exist here."""

    exit_code = 3


class NetworkError(MLRSError):
    """Something must be fetched and the network does not answer."""

    exit_code = 4


class DivergedError(MLRSError):
    """The training loss is no longer a finite number."""

    exit_code = 5


def nearest(name: str, known: Iterable[str]) -> str:
    """End of an error sentence that names what the user may have meant.

    >>> nearest("cosin", ["cosine", "linear"])
    "did you mean 'cosine'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"known: {shown or 'none'}"


class InterruptedRunError(MLRSError):
    """The user stopped a run; it is saved in the folder `run` and can be resumed."""

    exit_code = 130

    def __init__(self, message: str, run: Path) -> None:
        super().__init__(message)
        self.run = run

    def __reduce__(self) -> tuple[type[InterruptedRunError], tuple[str, Path]]:
        return type(self), (str(self), self.run)  # it may come from another process
