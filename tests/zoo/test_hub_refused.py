"""What a Hub answers wrongly or not at all is refused, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_entries import DEAD, Run, cached_entries, contents
from hub_server import HubServer, Repo


def tampered(files: dict[str, bytes]) -> dict[str, bytes]:
    weights = bytearray(files["schedule.safetensors"])
    weights[-1] ^= 1
    return files | {"schedule.safetensors": bytes(weights)}


def with_config(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    return files | {"config.json": json.dumps(json.loads(files["config.json"]) | changes).encode()}


SPOILED = {
    "tampered": (tampered, "SHA-256"),
    "pickle": (lambda f: f | {"schedule.safetensors": b"\x80\x04K\x01."}, "bytes and should have"),
    "oversized": (lambda f: f | {"schedule.safetensors": bytes(17 * 2**20)}, "not fetched"),
    "no weights": (lambda f: {k: v for k, v in f.items() if k != "schedule.safetensors"}, "is missing"),
    "unknown field": (lambda f: with_config(f, extra=1), "extra"),
    "newer format": (lambda f: with_config(f, format_version=7), "pip install -U mlrs-cli"),
    "no JSON": (lambda f: f | {"config.json": b"<html>"}, "not JSON"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_entry_is_refused_and_leaves_nothing(
    plain_hub: HubServer, mlrs: Run, entry: Path, tmp_path: Path, name: str
) -> None:
    spoil, words = SPOILED[name]
    repo = plain_hub.repos["org/repo"] = Repo(private=False)
    repo.commit(spoil(contents(entry)), "entry")
    refused = mlrs("zoo pull hub:org/repo", plain_hub.url)
    assert refused.code == 1, refused.err
    assert words in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not cached_entries(tmp_path)


def test_a_refused_pull_leaves_the_rest_of_the_cache_alone(
    plain_hub: HubServer, mlrs: Run, zoo: Path, tmp_path: Path
) -> None:
    mlrs(f"zoo push {zoo} --repo org/zoo --tag v1.0.0", plain_hub.url)
    assert mlrs("zoo pull hub:org/zoo@v1.0.0#two", plain_hub.url).code == 0
    assert mlrs("zoo pull hub:org/zoo@v1.0.0", plain_hub.url).code == 3
    assert mlrs("zoo show hub:org/zoo@v1.0.0#two", DEAD).code == 0
    repo = plain_hub.repos["org/llm"] = Repo(private=False)
    commit = repo.commit(
        {"config.json": b"{}", "README.md": b"x", "model.safetensors": bytes(100)}, "another library's"
    )
    download = f"from huggingface_hub import snapshot_download as d; d('org/llm', revision='{commit}')"
    environment = os.environ | {
        "HF_ENDPOINT": plain_hub.url,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    subprocess.run([sys.executable, "-c", download], check=True, env=environment, capture_output=True)
    assert mlrs("zoo pull hub:org/llm", plain_hub.url).code == 1
    left = {p.name for p in (tmp_path / "cache").rglob("models--org--llm/snapshots/*/*")}
    assert left == {"config.json", "README.md", "model.safetensors"}


def test_a_body_that_breaks_off_is_a_network_error_and_the_next_try_works(
    plain_hub: HubServer, mlrs: Run, entry: Path, tmp_path: Path
) -> None:
    repo = plain_hub.repos["org/repo"] = Repo(private=False)
    repo.commit(contents(entry), "entry")
    plain_hub.truncate = "schedule.safetensors"
    broken = mlrs("zoo pull hub:org/repo", plain_hub.url)
    assert broken.code == 4, broken.err
    plain_hub.truncate = None
    assert mlrs("zoo pull hub:org/repo", plain_hub.url).code == 0


def test_a_hub_in_trouble_is_a_network_error(plain_hub: HubServer, mlrs: Run) -> None:
    plain_hub.broken = 501
    trouble = mlrs("zoo pull hub:org/repo", plain_hub.url)
    assert trouble.code == 4, trouble.err
