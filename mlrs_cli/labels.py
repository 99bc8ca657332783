"""How a schedule is called where results are shown."""

from __future__ import annotations

__all__ = ["shown"]

NOTES = {"lrtuner": "reconstruction"}  # its authors published no code, so its results are not theirs


def shown(reference: str) -> str:
    """The reference, with what must be said beside it.

    >>> shown("lrtuner:every=20"), shown("cosine")
    ('lrtuner:every=20 (reconstruction)', 'cosine')
    """
    note = NOTES.get(reference.partition(":")[0])
    return f"{reference} ({note})" if note else reference
