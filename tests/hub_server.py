"""How the hub on this machine answers: one method for each kind of request that the hub's client makes."""

from __future__ import annotations

import base64
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from tests.hub_state import READ_TOKEN, TOKEN, HubStub, Repository, git_name, sha256


class Handler(BaseHTTPRequestHandler):
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
            message = self.stub.says.replace("TOKEN", self._token() or "none")
            self._answer({"error": message}, status=what, headers={"X-Error-Message": message})
        elif what == "refuse":
            self.close_connection = True
        else:
            self._cut = what == "cut"
            self._dispatch(urlparse(self.path).path, body)  # with %2F for the slashes of a branch

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
            status = 401 if self._token() is None else 404  # to those it does not know it says nothing of either
            self._answer({"error": "no"}, status=status, headers={"X-Error-Code": "RepoNotFound"})
            return
        if repository.access == "gated":
            self._answer({"error": "no"}, status=403, headers={"X-Error-Code": "GatedRepo"})
            return
        what, _, more = rest.lstrip("/").partition("/")
        revision, file = (unquote(each) for each in more.partition("/")[::2])
        if what == "info":
            self._answer(_lfs_answer(json.loads(body), self.stub.url))
        elif what == "preupload":
            self._answer({"files": [_upload_mode(each["path"]) for each in json.loads(body)["files"]]})
        elif what == "branch":
            repository.names.setdefault(unquote(more), repository.names["main"])
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
            is_private = repository.access == "private"
            siblings = [{"rfilename": each} for each in files]
            self._answer({"id": name, "modelId": name, "sha": commit, "private": is_private, "tags": [], "downloads": 0,
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
        answer: dict[str, Any] = {"success": True, "hookOutput": ""}
        if parse_qs(urlparse(self.path).query).get("create_pr") == ["1"]:
            branch = f"refs/pr/{sum(each.startswith('refs/pr/') for each in repository.names) + 1}"
            answer["pullRequestUrl"] = f"{self.stub.url}/{name}/discussions/{branch.rpartition('/')[2]}"
        commit = repository.commit(files, branch)
        self._answer(answer | {"commitUrl": f"{self.stub.url}/{name}/commit/{commit}", "commitOid": commit})

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
