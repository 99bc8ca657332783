"""The zoo against the Hub's real client and a Hub on the loopback; the program runs in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import HubServer, Repo

from mlrs_cli.run import read_run
from mlrs_cli.schedules.mlr_snet import SHAPES
from mlrs_cli.zoo.entry import FILES, write_entry
from mlrs_cli.zoo.index import write_index

DEAD = "http://127.0.0.1:9"  # the discard port: nobody listens
METHOD = {
    "name": "mlr-snet",
    "cell": "transfer",
    "gamma": {"rule": "mlr-snet", "measured": "once"},
    "stages": [{"start": 0.0}, {"start": 0.5}],
}
CURVE = {"step": [1.0, 2.0], "loss": [2.3, 2.1], "lr": [0.3, 0.2]}


def make_entry(folder: Path, name: str = "small", version: str = "1.0.0", seed: int = 0) -> Path:
    draws = np.random.default_rng(seed)
    stages = [{k: draws.normal(size=shape).astype(np.float32) for k, shape in SHAPES.items()} for _ in range(2)]
    config = {"name": name, "version": version, "description": "For tests.", "license": "MIT", "method": METHOD}
    write_entry(folder, config, stages, {0: CURVE})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(params=[True, False], ids=["lfs", "regular"])
def hub(request: pytest.FixtureRequest) -> Iterator[HubServer]:
    server = HubServer(lfs=request.param)
    yield server
    server.close()


@pytest.fixture
def plain_hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


Run = Callable[..., Result]


@pytest.fixture
def mlrs(tmp_path: Path) -> Run:
    """Run `mlrs` against a Hub, with a cache and a token of its own."""

    def run(words: str, url: str = DEAD, token: str | None = "hf_write", cache: str = "cache", **more: str) -> Result:
        environment = {
            **os.environ,
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / cache),
            "HF_HUB_DISABLE_XET": "1",
            **({"HF_TOKEN": token} if token else {}),
            **more,
        }
        command = [sys.executable, "-m", "mlrs_cli", *words.split()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return make_entry(tmp_path / "small")


def cached_entries(tmp_path: Path, cache: str = "cache") -> list[Path]:
    return list((tmp_path / cache).rglob("snapshots/*/config.json"))


def test_a_learned_schedule_goes_round_and_gives_the_same_rates(hub: HubServer, mlrs: Run) -> None:
    learn = (
        "meta-train --model mlp --dataset digits --steps 6 --batch-size 32 --meta-every 2 --name mine --out learned -q"
    )
    assert mlrs(learn).code == 0
    pushed = mlrs("zoo push learned/mine --repo org/repo --tag v1.0.0 --json", hub.url)
    assert pushed.code == 0, pushed.err
    assert pushed.json["new_commit"]
    assert pushed.json["new_tag"]
    task = "--model mlp --dataset digits --steps 6 --batch-size 32 -q"
    there = mlrs(f"transfer --schedule hub:org/repo@v1.0.0 {task} --out there", hub.url, cache="fresh")
    assert there.code == 0, there.err
    here = mlrs(f"transfer --schedule ./learned/mine {task} --out here")
    assert here.code == 0, here.err
    runs = [read_run(Path(p)) for p in ("there", "here")]
    assert runs[0]["updates"] == runs[1]["updates"]
    assert runs[0]["config"]["schedule"]["sha256"] == runs[1]["config"]["schedule"]["sha256"]


def test_the_second_push_of_identical_files_makes_no_commit(hub: HubServer, mlrs: Run, entry: Path) -> None:
    assert mlrs(f"zoo push {entry} --repo org/repo", hub.url).code == 0
    commits = len(hub.repos["org/repo"].commits)
    assert hub.repos["org/repo"].commits[hub.repos["org/repo"].main].keys() == set(FILES)
    again = mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0 --json", hub.url)
    assert again.code == 0, again.err
    assert not again.json["new_commit"]
    assert again.json["new_tag"]
    third = mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0 --json", hub.url)
    assert third.code == 0, third.err
    assert not third.json["new_tag"]
    assert len(hub.repos["org/repo"].commits) == commits


def test_a_tag_is_never_moved(hub: HubServer, mlrs: Run, entry: Path, tmp_path: Path) -> None:
    mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0", hub.url)
    before = dict(hub.repos["org/repo"].tags), hub.repos["org/repo"].main
    other = make_entry(tmp_path / "other", seed=1)
    refused = mlrs(f"zoo push {other} --repo org/repo --tag v1.0.0", hub.url)
    assert refused.code == 1
    assert "tag 'v1.0.0' of org/repo exists with other files" in refused.err
    assert (dict(hub.repos["org/repo"].tags), hub.repos["org/repo"].main) == before


def test_versions_are_pulled_by_tag_by_commit_and_by_branch(
    plain_hub: HubServer, mlrs: Run, entry: Path, tmp_path: Path
) -> None:
    url = plain_hub.url
    first = mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0 --json", url).json["commit"]
    mlrs(f"zoo push {make_entry(tmp_path / 'new', version='1.1.0', seed=1)} --repo org/repo --tag v1.1.0", url)
    for revision, version in (
        ("@v1.0.0", "1.0.0"),
        (f"@{first}", "1.0.0"),
        ("@v1.1.0", "1.1.0"),
        ("", "1.1.0"),
        ("@main", "1.1.0"),
    ):
        pulled = mlrs(f"zoo pull hub:org/repo{revision} --json", url)
        assert pulled.code == 0, pulled.err
        assert pulled.json[0]["version"] == version


def test_the_revision_is_resolved_once_and_all_files_are_of_that_commit(
    plain_hub: HubServer, mlrs: Run, entry: Path
) -> None:
    mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0", plain_hub.url)
    plain_hub.requests.clear()
    assert mlrs("zoo pull hub:org/repo@v1.0.0", plain_hub.url, cache="fresh").code == 0
    assert sum("v1.0.0" in line for line in plain_hub.requests) == 1, plain_hub.requests


def test_what_was_pulled_works_offline_and_with_the_hub_down(plain_hub: HubServer, mlrs: Run, entry: Path) -> None:
    mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0", plain_hub.url)
    assert mlrs("zoo pull hub:org/repo@v1.0.0", plain_hub.url).code == 0
    for how in ({"url": plain_hub.url, "HF_HUB_OFFLINE": "1"}, {"url": DEAD}):
        warm = mlrs("zoo show hub:org/repo@v1.0.0 --json", **how)
        assert warm.code == 0, warm.err
        assert warm.json["version"] == "1.0.0"
        for cold in ("hub:org/repo@v2.0.0", "hub:org/other"):
            missing = mlrs(f"zoo pull {cold}", **how)
            assert missing.code == 4, missing.err
            assert f"mlrs zoo pull {cold}" in missing.err
    assert mlrs("zoo push small --repo org/repo", DEAD).code == 4


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("hub:org/nothing", "no repo org/nothing"),
        ("hub:org/repo@v9.9.9", "no revision 'v9.9.9'"),
        ("hub:org/repo@0123456789012345678901234567890123456789", "no revision"),
        ("hub:org/repo#small", "is no zoo"),
        ("hub:org/empty", "holds no entry"),
    ],
)
def test_what_is_not_there_is_exit_code_3(plain_hub: HubServer, mlrs: Run, entry: Path, ref: str, words: str) -> None:
    repo = plain_hub.repos["org/repo"] = Repo(private=False)
    repo.commit(contents(entry), "entry")
    plain_hub.repos["org/empty"] = Repo(private=False)
    missing = mlrs(f"zoo pull {ref}", plain_hub.url)
    assert missing.code == 3, missing.err
    assert words in missing.err


def test_rights(plain_hub: HubServer, mlrs: Run, entry: Path) -> None:
    url = plain_hub.url
    nobody = mlrs(f"zoo push {entry} --repo org/repo", url, token=None)
    assert nobody.code == 1
    assert "hf auth login" in nobody.err
    assert not plain_hub.requests
    reader = mlrs(f"zoo push {entry} --repo org/repo", url, token="hf_read")
    assert reader.code == 1
    assert "refuses access" in reader.err
    assert "org/repo" not in plain_hub.repos
    unknown = mlrs(f"zoo push {entry} --repo org/repo", url, token="hf_unknown")
    assert unknown.code in (1, 3)
    assert mlrs(f"zoo push {entry} --repo org/repo --private", url).code == 0
    assert plain_hub.repos["org/repo"].private
    assert mlrs("zoo pull hub:org/repo", url, cache="a").code == 0
    hidden = mlrs("zoo pull hub:org/repo", url, token=None, cache="b")
    assert hidden.code == 3
    assert "hf auth login" in hidden.err


def test_a_repo_that_changes_while_it_is_written_is_left_alone(plain_hub: HubServer, mlrs: Run, entry: Path) -> None:
    plain_hub.before_commit = lambda repo: repo.commit({"other": b"x"}, "somebody else")
    stale = mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0", plain_hub.url)
    assert stale.code == 1
    assert "changed while it was being written" in stale.err
    repo = plain_hub.repos["org/repo"]
    assert repo.commits[repo.main] == {"other": b"x"}
    assert not repo.tags


def test_dry_run_asks_the_hub_nothing(plain_hub: HubServer, mlrs: Run, entry: Path) -> None:
    dry = mlrs(f"zoo push {entry} --repo org/repo --tag v1.0.0 --dry-run --json", plain_hub.url)
    assert dry.code == 0
    assert dry.json["files"] == list(FILES)
    assert not plain_hub.requests


def test_an_entry_that_does_not_pass_is_not_published(plain_hub: HubServer, mlrs: Run, entry: Path) -> None:
    (entry / "curves.csv").write_text("odd")
    assert mlrs(f"zoo push {entry} --repo org/repo", plain_hub.url).code == 1
    assert not plain_hub.requests


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


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    make_entry(folder / "one", "one", seed=1)
    make_entry(folder / "one@0.9.0", "one", "0.9.0", seed=2)
    make_entry(folder / "two", "two", seed=3)
    write_index(folder)
    return folder


def test_a_whole_zoo_is_published_listed_and_pulled_by_name(hub: HubServer, mlrs: Run, zoo: Path) -> None:
    pushed = mlrs(f"zoo push {zoo} --repo org/zoo --tag v1.0.0 --json", hub.url)
    assert pushed.code == 0, pushed.err
    assert len(pushed.json["files"]) == 13
    listed = mlrs("zoo list --hub --json", hub.url, token=None, cache="fresh", MLRS_ZOO_REPO="org/zoo")
    assert listed.code == 0, listed.err
    assert [(row["name"], row["version"]) for row in listed.json] == [
        ("one", "1.0.0"),
        ("one", "0.9.0"),
        ("two", "1.0.0"),
    ]
    for name, version in (("one", "1.0.0"), ("one@0.9.0", "0.9.0"), ("two", "1.0.0")):
        shown = mlrs(f"zoo show hub:org/zoo@v1.0.0#{name} --json", hub.url, cache="fresh")
        assert shown.code == 0, shown.err
        assert shown.json["version"] == version
    missing = mlrs("zoo pull hub:org/zoo@v1.0.0#tow", hub.url)
    assert missing.code == 3
    assert "did you mean 'two'" in missing.err
    assert mlrs(f"zoo push {zoo} --repo org/zoo --tag v1.0.0 --json", hub.url).json["new_commit"] is False


def test_an_entry_that_differs_from_its_index_is_refused(
    plain_hub: HubServer, mlrs: Run, zoo: Path, tmp_path: Path
) -> None:
    shutil.rmtree(zoo / "two")
    make_entry(zoo / "two", "two", seed=4)  # sound, but not what the index says
    assert mlrs(f"zoo push {zoo} --repo org/zoo", plain_hub.url).code == 1
    repo = plain_hub.repos["org/zoo"] = Repo(private=False)
    repo.commit({str(p.relative_to(zoo)): p.read_bytes() for p in zoo.rglob("*") if p.is_file()}, "zoo")
    refused = mlrs("zoo pull hub:org/zoo#two", plain_hub.url)
    assert refused.code == 1
    assert "should have" in refused.err
    assert not cached_entries(tmp_path)


def test_the_pinned_tag_of_the_official_zoo_is_the_default(plain_hub: HubServer, mlrs: Run, zoo: Path) -> None:
    from mlrs_cli.zoo.hub import ZOO_REVISION

    mlrs(f"zoo push {zoo} --repo org/zoo --tag {ZOO_REVISION}", plain_hub.url)
    repo = plain_hub.repos["org/zoo"]
    repo.commit({"index.json": b"moved on"}, "later")
    pulled = mlrs("zoo pull hub:org/zoo#two", plain_hub.url, MLRS_ZOO_REPO="org/zoo")
    assert pulled.code == 0, pulled.err
    assert mlrs("zoo pull hub:org/zoo@main#two", plain_hub.url, MLRS_ZOO_REPO="org/zoo").code == 1
