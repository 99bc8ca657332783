"""What the README tells users to type does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def commands(page: Path) -> list[str]:
    """What a page shows in code blocks without a language."""
    blocks = re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("mlrs ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_run_in_their_order(page: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands(page):
        short = f"{command} --limit-batches 2" if command.split()[1] in ("transfer", "meta-train") else command
        finished = subprocess.run(short, shell=True, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_snippets_run(snippet: str) -> None:
    """Five lines, among a user's own: a model, its optimizer and the loss of a batch."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    exec(snippet, {"optimizer": optimizer, "loss": torch.tensor(2.3)})
    assert len(snippet.splitlines()) <= 6
    assert 0.1 < optimizer.param_groups[0]["lr"] < 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_makefile_has_the_commands() -> None:
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", TEXT, re.MULTILINE):
        assert f"\n{target}:" in targets
