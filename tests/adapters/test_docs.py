"""The loops of docs/adapters.md run as they stand, and the schedule adds at most three lines to each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "adapters.md").read_text()
SNIPPETS = dict(re.findall(r"^## (\w+)$.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))


def test_there_is_one_for_each_library() -> None:
    assert set(SNIPPETS) == {"PyTorch", "timm", "Transformers", "Lightning", "Accelerate"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("library", SNIPPETS)
def test_it_runs(library: str) -> None:
    if library in ("Transformers", "Lightning"):
        pytest.importorskip(library.lower(), reason="an optional package")
    snippet = SNIPPETS[library]
    assert 2 <= snippet.count("# mlrs") <= 3
    space: dict[str, object] = {"__name__": "snippet"}
    exec(snippet, space)
