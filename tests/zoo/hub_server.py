"""A small Hugging Face Hub on the loopback: model repos over HTTP, as the real client expects them.

Repos live in memory: commits are whole trees of bytes. Faults are set by the tests: `truncate` names a file whose body
breaks off, `broken` answers every request with a status, `before_commit` runs just before a commit is taken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKENS = {"hf_write": "write", "hf_read": "read"}
USER = "me"


class Repo:
    """Commits, branches and tags of one model."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.titles: list[tuple[str, str]] = []
        self.tags: dict[str, str] = {}
        self.main = ""
        self.commit({}, "initial commit")

    def commit(self, files: dict[str, bytes], title: str) -> str:
        """Add a commit with exactly these files on top of main."""
        oid = hashlib.sha1(f"{len(self.commits)} {title} {self.main}".encode()).hexdigest()
        self.commits[oid], self.main = dict(files), oid
        self.titles.append((oid, title))
        return oid

    def find(self, revision: str) -> str | None:
        """Commit of a branch, tag or commit."""
        oid = {"main": self.main, **self.tags}.get(revision, revision)
        return oid if oid in self.commits else None


class HubServer:
    """The server, in a thread of its own."""

    def __init__(self, lfs: bool = True) -> None:
        self.lfs = lfs  # whether *.safetensors go through LFS, as on the real Hub
        self.repos: dict[str, Repo] = {}
        self.store: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.truncate: str | None = None
        self.broken: int | None = None
        self.before_commit: Callable[[Repo], object] | None = None
        outer = self

        class Handler(HubHandler):
            hub = outer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class HubHandler(BaseHTTPRequestHandler):
    """The routes of hub clients."""

    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # ---- answers

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, **headers: str) -> None:
        self.answer(
            status, json.dumps({"error": code}).encode(), {"X-Error-Code": code, "X-Error-Message": code, **headers}
        )

    # ---- requests

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def role(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.data = self.body()
        self.query = parse_qs(parts.query, keep_blank_values=True)
        words = [unquote(w) for w in parts.path.strip("/").split("/")]
        self.hub.requests.append(f"{self.command} {unquote(parts.path)}")
        if self.hub.broken:
            self.answer(self.hub.broken)
        elif words[0] == "api":
            self.api(words[1:])
        elif words[-4:] == ["info", "lfs", "objects", "batch"]:
            self.lfs_batch()
        elif words[0] == "lfs-upload":
            self.hub.store[words[1]] = self.data
            good = hashlib.sha256(self.data).hexdigest() == words[1]
            self.answer(200 if good else 400)
        elif words[0] == "lfs-verify":
            self.answer(200 if json.loads(self.data)["oid"] in self.hub.store else 404)
        elif len(words) > 4 and words[2] == "resolve":
            self.resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
        else:
            self.answer(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def api(self, words: list[str]) -> None:
        if words == ["whoami-v2"]:
            if self.role is None:
                return self.refuse(401, "Unauthorized")
            return self.json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": self.role}}})
        if words == ["validate-yaml"]:
            return self.json({"errors": [], "warnings": []})
        if words == ["repos", "create"]:
            return self.create()
        if words[0] != "models" or len(words) < 3:
            return self.answer(404)
        name, verb, rest = "/".join(words[1:3]), words[3] if len(words) > 3 else "revision", words[4:]
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.role is None):
            return self.refuse(401 if self.role is None else 404, "RepoNotFound")
        if self.command != "GET" and verb in ("preupload", "commit", "tag") and self.role != "write":
            return self.refuse(403 if self.role else 401, "Forbidden")
        if verb == "refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.main}]
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repo.tags.items()]
            return self.json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})
        commit = repo.find(rest[0] if rest else "main")
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        if verb == "revision":
            files = [{"rfilename": path} for path in repo.commits[commit]]
            facts = {"id": name, "sha": commit, "private": repo.private, "tags": [], "siblings": files}
            return self.json(facts)
        if verb == "tree":
            return self.json([self.entry(path, data) for path, data in repo.commits[commit].items()])
        if verb == "paths-info":
            wanted = parse_qs(self.data.decode())["paths"]
            return self.json([self.entry(p, d) for p, d in repo.commits[commit].items() if p in wanted])
        if verb == "preupload":
            return self.preupload(repo)
        if verb == "commit":
            return self.commit(name, repo)
        if verb == "tag":
            tag = json.loads(self.data)["tag"]
            if tag in repo.tags:
                return self.refuse(409, "TagExists")
            repo.tags[tag] = commit
            return self.json({}, 201)
        return self.answer(404)

    def create(self) -> None:
        if self.role != "write":
            return self.refuse(403 if self.role else 401, "Forbidden")
        asked = json.loads(self.data)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repos:
            return self.json({"error": "exists", "url": url}, 409)
        self.hub.repos[name] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.json({"url": url, "name": name, "id": name})

    def is_lfs(self, path: str) -> bool:
        return self.hub.lfs and path.endswith(".safetensors")

    def entry(self, path: str, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if self.is_lfs(path):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return found

    def preupload(self, repo: Repo) -> None:
        files = repo.commits[repo.main]
        answers = []
        for asked in json.loads(self.data)["files"]:
            path, lfs = asked["path"], self.is_lfs(asked["path"])
            data = files.get(path)
            oid = None if data is None else hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
            mode = "lfs" if lfs else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.json({"files": answers})

    def lfs_batch(self) -> None:
        objects = []
        for asked in json.loads(self.data)["objects"]:
            oid, found = asked["oid"], dict(asked)
            if oid not in self.hub.store:
                upload = {"href": f"{self.hub.url}/lfs-upload/{oid}", "header": {}}
                found["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs-verify/{oid}"}}
            objects.append(found)
        self.json({"transfer": "basic", "objects": objects})

    def commit(self, name: str, repo: Repo) -> None:
        if self.hub.before_commit:
            hook, self.hub.before_commit = self.hub.before_commit, None
            hook(repo)
        lines = [json.loads(line) for line in self.data.splitlines() if line.strip()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.main):
            return self.refuse(412, "StaleParent")
        files = dict(repo.commits[repo.main])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.store:
                    return self.refuse(400, "UnknownObject")
                files[value["path"]] = self.hub.store[value["oid"]]
        oid = repo.commit(files, header["summary"])
        return self.json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.role is None):
            return self.refuse(401 if self.role is None else 404, "RepoNotFound")
        commit = repo.find(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        data = repo.commits[commit].get(path)
        if data is None:
            return self.refuse(404, "EntryNotFound", **{"X-Repo-Commit": commit})
        etag = hashlib.sha256(data).hexdigest() if self.is_lfs(path) else blob_id(data)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Content-Length": str(len(data))}
        if self.command == "GET" and self.hub.truncate == path:
            self.close_connection = True
            data = data[: len(data) // 2]
        return self.answer(200, data, headers)


def blob_id(data: bytes) -> str:
    """Git's name for a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
