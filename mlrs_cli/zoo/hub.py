"""Entries on the Hugging Face Hub: fetched by revision and checked, published whole or not at all.

The client honours HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. What it fetches is data: nothing is unpickled, and
an entry that does not pass its check is taken out of the cache again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlrs_cli.errors import MLRSError, NetworkError, NotFoundError, UsageError, nearest
from mlrs_cli.zoo.entry import FILES, LARGEST, Entry, read_entry
from mlrs_cli.zoo.index import INDEX, Index, IndexRow, check_against_index, parse_index, read_index

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from mlrs_cli.zoo.reference import Hub

__all__ = ["ZOO_REPO", "ZOO_REVISION", "Pushed", "hub_index", "pull", "push"]

ZOO_REPO = os.environ.get("MLRS_ZOO_REPO", "mlrs/zoo")  # the official zoo
ZOO_REVISION = "v0.1.0"  # the tag of it that this release of the package carries


def pull(reference: Hub) -> Entry:
    """Fetch an entry into the Hub's cache and check it; from the cache alone where the Hub does not answer.

    The revision is resolved to a commit once and every file is of that commit.

    Raises:
        NotFoundError: no such repo, revision or entry.
        NetworkError: the Hub does not answer and the cache does not hold it.
        MLRSError: a file is missing, too large, or not what the index or the entry's own list says.
    """
    with hub_errors(reference.repo, reference.revision):
        commit = resolve_commit(reference.repo, reference.revision)
        row: IndexRow | None = None
        folder = ""
        if reference.name:
            index = fetch_index(reference.repo, commit)
            row = choose(index, reference)
            folder = row.folder + "/"
        names = [folder + name for name in FILES]
        before = cached(reference.repo, commit, names)
        snapshot = fetch(reference.repo, commit, names)
        store = snapshot.parent.parent
        try:
            entry = read_entry(snapshot / folder if folder else snapshot, store)
            if row:
                check_against_index(entry, row)
        except MLRSError as error:
            for name in set(names) - before:  # what this pull brought; the rest of the cache is somebody else's
                (snapshot / name).unlink(missing_ok=True)
            if isinstance(error, NotFoundError):
                raise NotFoundError(f"{reference} holds no entry: {INDEX_HINT}") from None
            raise MLRSError(f"{reference} was refused: {error}") from None
        return entry


INDEX_HINT = "an entry has config.json at its root; one in a zoo is written hub:ORG/REPO#NAME"


def hub_index(repo: str = ZOO_REPO, revision: str | None = None) -> Index:
    """What a zoo on the Hub holds."""
    with hub_errors(repo, revision):
        return fetch_index(repo, resolve_commit(repo, revision))


def resolve_commit(repo: str, revision: str | None) -> str:
    """Commit of a revision, from the cache where the Hub does not answer."""
    from huggingface_hub import HfApi

    pinned = ZOO_REVISION if repo == ZOO_REPO and revision is None else revision
    return HfApi().resolve_revision(repo, revision=pinned).resolved


def fetch(repo: str, commit: str, names: list[str]) -> Path:
    """Download files of a commit, none of them too large; returns the snapshot's folder in the cache."""
    from huggingface_hub import snapshot_download

    for file in snapshot_download(repo, revision=commit, allow_patterns=names, dry_run=True):
        if (file.file_size or 0) > LARGEST:
            raise MLRSError(
                f"{file.filename} of {repo} has {file.file_size:,} bytes, more than the {LARGEST:,} of a zoo's file: not fetched"
            )
    return Path(snapshot_download(repo, revision=commit, allow_patterns=names))


def fetch_index(repo: str, commit: str) -> Index:
    """The index at the root of a zoo."""
    path = fetch(repo, commit, [INDEX]) / INDEX
    if not path.is_file():
        raise NotFoundError(f"{repo} is no zoo, it has no {INDEX}: write hub:{repo} for an entry at its root")
    return parse_index(path.read_bytes(), f"{INDEX} of {repo}")


def choose(index: Index, reference: Hub) -> IndexRow:
    """The row that a reference names."""
    assert reference.name
    name, _, version = reference.name.partition("@")
    for row in index.entries:
        if row.name == name and version in ("", row.version):
            return row
    known = {row.name for row in index.entries} | {f"{row.name}@{row.version}" for row in index.entries}
    raise NotFoundError(f"no entry '{reference.name}' in {reference.repo}: {nearest(reference.name, known)}")


def cached(repo: str, commit: str, names: list[str]) -> set[str]:
    """Those files of a commit that the Hub's cache holds."""
    from huggingface_hub import try_to_load_from_cache

    return {name for name in names if isinstance(try_to_load_from_cache(repo, name, revision=commit), str)}


@dataclass(frozen=True)
class Pushed:
    """What a push did: the files it compared, the commit, and whether commit and tag are new."""

    repo: str
    files: tuple[str, ...]
    commit: str | None
    committed: bool
    tag: str | None
    tagged: bool


def push(path: Path, repo: str, tag: str | None = None, private: bool = False, dry_run: bool = False) -> Pushed:
    """Publish an entry, or a zoo with its index: one commit, then the tag. Identical files make no new commit.

    Args:
        path: an entry's folder, or a folder of entries with an up-to-date index.
        repo: ORG/REPO; made if it is absent.
        tag: name of the tag to set.
        private: whether a new repo is private.
        dry_run: check everything here and ask the Hub nothing.

    Raises:
        MLRSError: the entry does not pass its check, nobody is logged in, the tag exists with other files, the repo has
            changed meanwhile, or writing is not allowed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise UsageError(f"'{repo}' is no Hub repo: write ORG/REPO")
    contents = checked_contents(path)
    if dry_run:
        return Pushed(repo, tuple(contents), None, False, tag, False)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise MLRSError("not logged in to the Hub: run 'hf auth login' first")
    api = HfApi()
    with hub_errors(repo, None):
        api.create_repo(repo, private=private, exist_ok=True)
        refs = api.list_repo_refs(repo)
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        if tag in tags:
            if not same_files(api, repo, tags[tag], contents):
                raise MLRSError(f"tag '{tag}' of {repo} exists with other files and is not moved: choose a new tag")
            return Pushed(repo, tuple(contents), tags[tag], False, tag, False)
        head = next((ref.target_commit for ref in refs.branches if ref.name == "main"), None)
        operations = [CommitOperationAdd(name, data) for name, data in contents.items()]
        commit = api.create_commit(
            repo, operations, commit_message=f"{path.resolve().name} {tag or ''}".strip(), parent_commit=head
        ).oid
        if tag:
            api.create_tag(repo, tag=tag, revision=commit)
        return Pushed(repo, tuple(contents), commit, commit != head, tag, tag is not None)


def checked_contents(path: Path) -> dict[str, bytes]:
    """Files to publish, by name in the repo, after their check."""
    if not (path / INDEX).is_file():
        entry = read_entry(path)
        return {name: (entry.folder / name).read_bytes() for name in FILES}
    contents = {INDEX: (path / INDEX).read_bytes()}
    for row in read_index(path).entries:
        check_against_index(read_entry(path / row.folder), row)
        contents |= {f"{row.folder}/{name}": (path / row.folder / name).read_bytes() for name in FILES}
    return contents


def same_files(api: HfApi, repo: str, commit: str, contents: dict[str, bytes]) -> bool:
    """Whether a commit holds exactly these files, by the hashes the Hub keeps."""
    from huggingface_hub.hf_api import RepoFile

    there = {}
    for file in api.list_repo_tree(repo, recursive=True, revision=commit):
        if isinstance(file, RepoFile):
            there[file.path] = file.lfs.sha256 if file.lfs else file.blob_id
    here = {}
    for name, data in contents.items():
        lfs = len(there.get(name, "")) == 64
        blob = b"blob %d\0" % len(data) + data
        here[name] = hashlib.sha256(data).hexdigest() if lfs else hashlib.sha1(blob).hexdigest()
    there.pop(".gitattributes", None)
    return there == here


@contextlib.contextmanager
def hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into one sentence and an exit code."""
    from huggingface_hub import errors as hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client library it is built on

    at = f"{repo}@{revision}" if revision else repo
    try:
        yield
    except MLRSError:
        raise
    except hub.HFValidationError as error:
        raise UsageError(f"'{repo}' is no name of a Hub repo: {error}") from None
    except hub.GatedRepoError as error:
        raise NotFoundError(f"{repo} asks for consent first: open its page, accept, and run 'hf auth login'") from error
    except hub.RepositoryNotFoundError as error:
        raise NotFoundError(
            f"no repo {repo} on the Hub: check the name, or run 'hf auth login' for a private one"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise NotFoundError(f"no revision '{revision}' of {repo}: check the tag, branch or commit") from error
    except (hub.LocalEntryNotFoundError, hub.RevisionResolutionError, hub.OfflineModeIsEnabled) as error:
        raise NetworkError(
            f"{at} is not in the cache and the Hub does not answer: where there is a network, run mlrs zoo pull hub:{at}"
        ) from error
    except hub.EntryNotFoundError as error:
        raise NotFoundError(f"{at} lacks a file: {error}") from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise MLRSError(
                f"the Hub refuses access to {repo}: check 'hf auth whoami' and the rights of the token"
            ) from error
        if status in (409, 412):
            raise MLRSError(f"{repo} changed while it was being written: run the same command again") from error
        raise NetworkError(f"the Hub answers for {repo} with an error ({status}): try again later") from error
    except (HTTPError, OSError) as error:
        raise NetworkError(f"the Hub could not be read for {at} ({error}): try again") from error
