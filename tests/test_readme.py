"""What the README tells users to type does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("mlrs ")
]
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_commands_run_in_their_order() -> None:
    assert len(COMMANDS) >= 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in COMMANDS:
        finished = subprocess.run(
            f"{command} --limit-batches 2", shell=True, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_snippets_run(snippet: str) -> None:
    space: dict[str, object] = {}
    exec(snippet, space)
    rates = space["rates"]
    assert isinstance(rates, list)
    assert all(0 < rate < 2 for rate in rates)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_makefile_has_the_commands() -> None:
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", TEXT, re.MULTILINE):
        assert f"\n{target}:" in targets
