"""A hub on this machine: the few addresses of the Hugging Face hub that its client asks, repositories in memory.

It shows that the client is called as it should be, and what a user reads when something goes wrong. It does not show
that the hub itself behaves the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

TOKEN, READ_TOKEN = "hf_writes", "hf_reads"

#: Of the client itself, when it uploads, with a newer version of what it speaks HTTP with.
PUSHES = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@dataclass
class Repository:
    """Files by path, for each commit; branches and tags by name.

    ``access`` is ``public``, ``private`` or ``gated``.
    """

    access: str = "public"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        content = json.dumps([len(self.commits), {path: sha256(data) for path, data in files.items()}], sort_keys=True)
        name = hashlib.sha1(content.encode()).hexdigest()
        self.commits[name] = dict(files)
        self.names[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.names.get(revision)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.find(revision) or ""]


@dataclass
class HubStub:
    """The state of the hub, which tests read and change.

    ``faults`` are what happens to requests whose method and path match a pattern, one each: a status, ``cut`` (half of
    the body arrives) or ``refuse`` (nothing does); ``spoil`` changes what is stored of files that are pushed.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[tuple[str, int | str]] = field(default_factory=list)
    spoil: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, files: dict[str, bytes] | Path, *, access: str = "public") -> Repository:
        """Add a repository with files, or those of a folder."""
        if isinstance(files, Path):
            paths = [path for path in sorted(files.rglob("*")) if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        self.repositories[name] = Repository(access)
        self.repositories[name].commit(files)
        return self.repositories[name]

    def fault(self, request: str) -> int | str | None:
        for number, (pattern, what) in enumerate(self.faults):
            if re.search(pattern, request):
                del self.faults[number]
                return what
        return None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_name(data: bytes) -> str:
    """Return what git calls the content of a file, by which the client tells whether it has changed."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextmanager
def hub_stub() -> Iterator[HubStub]:
    """Run a hub until the end of the block."""
    stub = HubStub()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: object) -> None:
            return  # a client that went away

    server = Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(patch: Any, url: str, home: Path, *, token: str | None = TOKEN) -> None:
    """Have the client of the hub ask a stub, as if it had been started with these environment variables.

    It reads HF_ENDPOINT and its like once, when it is imported.
    """
    from huggingface_hub import constants, file_download

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    for name, path in {"HF_HUB_CACHE": "hub", "HF_TOKEN_PATH": "token", "HF_STORED_TOKENS_PATH": "tokens"}.items():
        patch.setattr(constants, name, str(home / path))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    patch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: HubStub

    def log_message(self, *words: object) -> None:
        return

    def do_GET(self) -> None:
        path, body = unquote(urlparse(self.path).path), self._body()
        request = f"{self.command} {path}"
        self.stub.asked.append(request)
        self._cut = False
        what = self.stub.fault(request)
        if isinstance(what, int):
            self._answer({"error": "as the test wants it"}, status=what)
        elif what == "refuse":
            self.close_connection = True
        else:
            self._cut = what == "cut"
            self._dispatch(path, body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def _dispatch(self, path: str, body: bytes) -> None:
        if self._token() not in (None, TOKEN, READ_TOKEN):
            message = "Invalid credentials in Authorization header"
            self._answer({"error": message}, status=401, headers={"X-Error-Message": message})
        elif self.command == "PUT":
            self.stub.blobs[path.rsplit("/", 1)[-1]] = body
            self._answer({})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.command == "POST" and self._token() != TOKEN:
            self._answer({"error": "no"}, status=403, headers={"X-Error-Message": "you have no right to write here"})
        elif found := re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+?)(?:\.git)?(/.*)?", path):
            self._ask(found[1], found[2] or "", body)

    def _ask(self, name: str, rest: str, body: bytes) -> None:
        repository = self.stub.repositories.get(name)
        if repository is None or (repository.access == "private" and self._token() is None):
            self._answer({"error": "no"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
            return
        if repository.access == "gated":
            self._answer({"error": "no"}, status=403, headers={"X-Error-Code": "GatedRepo"})
            return
        what, _, more = rest.lstrip("/").partition("/")
        revision, _, file = more.partition("/")
        if what == "info":
            self._answer(_lfs_answer(json.loads(body), self.stub.url))
        elif what == "preupload":
            self._answer({"files": [_upload_mode(each["path"]) for each in json.loads(body)["files"]]})
        elif what == "branch":
            repository.names.setdefault(more, repository.names["main"])
            self._answer({})
        elif what == "commit":
            self._commit(name, repository, revision, body)
        elif repository.find(revision or "main") is None:
            self._answer({"error": "no"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            self._read(name, repository, what, repository.find(revision or "main") or "", file)

    def _read(self, name: str, repository: Repository, what: str, commit: str, path: str) -> None:
        files = repository.commits[commit]
        if what == "resolve":
            self._file(files.get(path), commit)
        elif what == "tree":
            self._answer([_tree_entry(each, data) for each, data in files.items()])
        else:
            siblings = [{"rfilename": each} for each in files]
            self._answer({"id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "downloads": 0,
                          "likes": 0, "siblings": siblings})  # fmt: skip

    def _file(self, data: bytes | None, commit: str) -> None:
        if data is None:
            self._answer({"error": "no"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha256(data)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(data[start:], 206 if asked else 200, headers)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if self._token() != TOKEN:
            self._answer({"error": "no"}, status=403, headers={"X-Error-Message": "you have no right to write here"})
            return
        status = 409 if name in self.stub.repositories else 200
        if status == 200:
            is_private = asked.get("private") or asked.get("visibility") == "private"  # by older and newer clients
            self.stub.add(name, {".gitattributes": b""}, access="private" if is_private else "public")
        self._answer({"url": f"{self.stub.url}/{name}", "id": name, "name": name}, status=status)

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> None:
        if branch not in repository.names:
            self._answer({"error": "no"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        files = dict(repository.files(branch))
        for line in body.decode().splitlines():
            key, value = (json.loads(line)[name] for name in ("key", "value"))
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.stub.blobs[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"])
        files.update({path: data for path, data in self.stub.spoil.items() if path in files})
        commit = repository.commit(files, branch)
        url = f"{self.stub.url}/{name}/commit/{commit}"
        self._answer({"commitUrl": url, "commitOid": commit, "success": True, "hookOutput": ""})

    def _token(self) -> str | None:
        given = self.headers.get("Authorization", "")
        return given.removeprefix("Bearer ") if given.startswith("Bearer ") else None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if self._cut else body)
        self.close_connection = self.close_connection or self._cut


def _upload_mode(path: str) -> dict[str, Any]:
    return {"path": path, "shouldIgnore": False, "uploadMode": "lfs" if path.endswith(".safetensors") else "regular"}


def _lfs_answer(asked: dict[str, Any], url: str) -> dict[str, Any]:
    objects = [
        {**each, "authenticated": True, "actions": {"upload": {"href": f"{url}/lfs/{each['oid']}", "header": {}}}}
        for each in asked["objects"]
    ]
    return {"transfer": "basic", "objects": objects}


def _tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": git_name(data)}
    if path.endswith(".safetensors"):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 100}
    return entry
