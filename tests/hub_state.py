"""What the hub on this machine holds: repositories with their commits, and what shall go wrong."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN, READ_TOKEN = "hf_writes", "hf_reads"


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
    the body arrives) or ``refuse`` (nothing does); ``says`` is the message with a status, in which ``TOKEN`` is the one
    that was sent. ``spoil`` changes what is stored of files that are pushed.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[tuple[str, int | str]] = field(default_factory=list)
    says: str = "as the test wants it"
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
