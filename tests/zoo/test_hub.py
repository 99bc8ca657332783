"""One entry to a Hub and back, through the Hub's real client."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_entries import DEAD, Run, contents, make_entry
from hub_server import HubServer, Repo

from mlrs_cli.run import read_run
from mlrs_cli.zoo.entry import FILES


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
