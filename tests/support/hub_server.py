"""A small hub in this process, for tests: repositories of models and data sets with revisions, by the hub's own HTTP interface.

As much of it as huggingface_hub 2.4 and datasets 5.2 ask for when they resolve a revision, list a tree, fetch files and make a
commit.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """What the hub holds: files by repository (`models/OWNER/NAME`, `datasets/OWNER/NAME`) and commit; what it was asked."""

    url: str = ""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Repositories that are shown to nobody: the HTTP status and the hub's own words.
    closed: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    #: The tokens of all requests that write.
    tokens: set[str] = field(default_factory=set)
    #: Files of at least so many bytes are uploaded apart from their commit, by Git LFS.
    large_file_bytes: int = 4096
    #: What LFS holds, by SHA-256.
    objects: dict[str, bytes] = field(default_factory=dict)
    takes_commits: bool = True

    def push(self, repository: str, files: Files, branch: str = "main") -> str:
        """Add a commit of these files; returns its SHA."""
        content = json.dumps([[name, hashlib.sha1(data).hexdigest()] for name, data in sorted(files.items())])
        sha = hashlib.sha1(f"{repository} {branch} {content}".encode()).hexdigest()
        self.commits.setdefault(repository, {})[sha] = dict(files)
        self.branches.setdefault(repository, {})[branch] = sha
        return sha

    def environment(self, cache) -> dict[str, str]:
        """The variables with which a command asks this hub."""
        quiet = {
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache), **quiet}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _oid(content: bytes, is_large: bool) -> str:
    """The hash by which the hub names a file's content: SHA-256 in LFS, else Git's of a blob."""
    return (
        hashlib.sha256(content).hexdigest()
        if is_large
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.split("/")
        if parts[0] == "api" and parts[1] in ("models", "datasets"):
            repository, rest = "/".join(parts[1:4]), parts[4:]
        elif parts[0] == "datasets":
            repository, rest = "/".join(parts[:3]), parts[3:]
        else:
            repository, rest = f"models/{'/'.join(parts[:2])}", parts[2:]
        if repository in self.hub.closed:
            status, code, message = self.hub.closed[repository]
            return self._send(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})
        if repository not in self.hub.commits:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return self._send(404, {"error": "Repository not found"}, headers)
        revision = rest[1] if len(rest) > 1 else "main"
        sha = self.hub.branches[repository].get(revision, revision)
        if sha not in self.hub.commits[repository]:
            headers = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            return self._send(404, {"error": f"Invalid rev id: {revision}"}, headers)
        files = self.hub.commits[repository][sha]
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": name} for name in files]
            return self._send(200, {"id": "/".join(repository.split("/")[1:]), "sha": sha, "siblings": siblings})
        if rest[0] == "tree":
            return self._send(200, self._tree(files, "/".join(rest[2:])))
        if rest[0] == "paths-info":
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            paths = body["paths"]
            return self._send(200, [entry for path in paths for entry in self._info(files, path)])
        name = "/".join(rest[2:])
        if name not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": sha}
            return self._send(404, {"error": "Entry not found"}, headers)
        etag = hashlib.sha1(files[name]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Content-Type": "application/octet-stream"}
        return self._send(200, files[name], headers)

    do_HEAD = do_GET

    def do_POST(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        write = next((write for word, write in self._writes().items() if word in f"/{path}/"), None)
        if write is None:  # a question about paths
            return self.do_GET()
        self.hub.requests.append(f"POST {path}")
        self.hub.tokens.add(self.headers["Authorization"].removeprefix("Bearer "))
        repository = path.removeprefix("api/").split(".git/")[0]
        repository = "/".join(repository.split("/")[:3])
        if repository not in self.hub.commits and "validate-yaml" not in path:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return self._send(404, {"error": "Repository not found"}, headers)
        return write(repository, self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self):
        oid = self.path.split("/")[-1]
        self.hub.requests.append(f"PUT {oid}")
        self.hub.objects[oid] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, {})

    def _writes(self):
        """What a request that writes does, by a part of its path."""
        return {
            "/validate-yaml/": lambda repository, body: self._send(200, {"errors": [], "warnings": []}),
            "/preupload/": self._tell_modes,
            "/info/lfs/objects/batch/": self._tell_missing_objects,
            "/commit/": self._commit,
        }

    def _newest_files(self, repository: str) -> Files:
        return self.hub.commits[repository][self.hub.branches[repository]["main"]]

    def _tell_modes(self, repository: str, body: bytes) -> None:
        modes = []
        for file in json.loads(body)["files"]:
            is_large = file["size"] >= self.hub.large_file_bytes
            content = self._newest_files(repository).get(file["path"])
            entry = {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            modes.append(entry | ({} if content is None else {"oid": _oid(content, is_large)}))
        self._send(200, {"files": modes})

    def _tell_missing_objects(self, repository: str, body: bytes) -> None:
        objects = []
        for entry in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}
            objects.append(entry | ({} if entry["oid"] in self.hub.objects else {"actions": upload}))
        self._send(200, {"objects": objects, "transfer": "basic"})

    def _commit(self, repository: str, body: bytes) -> None:
        if not self.hub.takes_commits:
            return self._send(403, {"error": "You have no right to write here"})
        files = dict(self._newest_files(repository))
        for line in map(json.loads, body.splitlines()):
            entry = line["value"]
            if line["key"] == "file":
                files[entry["path"]] = base64.b64decode(entry["content"])
            elif line["key"] == "lfsFile":
                files[entry["path"]] = self.hub.objects[entry["oid"]]
        sha = self.hub.push(repository, files)
        url = f"{self.hub.url}/{repository}/commit/{sha}"
        return self._send(200, {"commitUrl": url, "commitOid": sha, "pullRequestUrl": None})

    def _tree(self, files: Files, folder: str) -> list[dict]:
        prefix = f"{folder}/" if folder else ""
        entries = [entry for name in files if name.startswith(prefix) for entry in self._info(files, name)]
        folders = {name.rsplit("/", 1)[0] for name in files if "/" in name and name.startswith(prefix)}
        return entries + [entry for name in sorted(folders - {folder}) for entry in self._info(files, name)]

    def _info(self, files: Files, path: str) -> list[dict]:
        if path in files:
            oid = hashlib.sha1(files[path]).hexdigest()
            return [{"type": "file", "path": path, "size": len(files[path]), "oid": oid}]
        if any(name.startswith(f"{path}/") for name in files):
            return [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40}]
        return []

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        start, code = 0, status
        if (paths := self.headers.get("Range")) and status == 200:
            start, code = int(paths.removeprefix("bytes=").split("-")[0]), 206
        self.send_response(code)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[start:])

    def log_message(self, *_):
        pass
