"""A whole zoo on a Hub: its index, its versions, the official one."""

from __future__ import annotations

import shutil
from pathlib import Path

from hub_entries import Run, cached_entries, make_entry
from hub_server import HubServer, Repo


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
