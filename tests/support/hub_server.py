"""A small hub in this process, for tests: repositories of models and data sets with revisions, by the hub's own HTTP interface.

As much of it as huggingface_hub 2.4 and datasets 5.2 ask for when they resolve a revision, list a tree and fetch files.
"""

from __future__ import annotations

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

    do_HEAD = do_POST = do_GET

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
