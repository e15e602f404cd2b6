"""A large file by HTTP: goes on where it broke off, and never joins parts of two versions.

pooch moves the bytes; what is here decides where they belong. The part that has arrived lies beside a note of the
server's mark of the version (ETag, else time of change) and of the size. A later request asks for the rest of that
version; where the server has another one, or knows no ranges, the file is begun anew.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from scmodelforge._errors import DataError

__all__ = ["Patience", "Progress", "download", "forget_part", "shown_address"]

_log = logging.getLogger(__name__)

#: Is told the bytes that have arrived, and of how many (0: not known).
Progress = Callable[[int, int], None]

#: So many bytes are lost at most when a connection breaks off.
_CHUNK = 64 << 10
#: Answers after which the same request may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited.

    Attributes
    ----------
    retries
        Requests that may fail for a passing reason one after another without a byte arriving.
    pause
        Seconds before the first of them is sent again; twice as many before each further one.
    timeout
        Seconds without a byte after which a request has failed.
    """

    retries: int = 5
    pause: float = 1.0
    timeout: float = 30.0


class _Broken(Exception):  # noqa: N818 - passing: the request is sent again
    """A body that ended early."""


def download(url: str, part: Path, *, patience: Patience, progress: Progress | None = None) -> None:
    """Bring a file to ``part``, going on with what is there of the same version.

    Whatever happens, ``part`` holds a beginning of the file, for the next call to go on with.

    Raises
    ------
    DataError
        If the server does not give the file or there is no room for it.
    """
    import requests

    failures, furthest = 0, -1
    while True:
        try:
            _attempt(url, part, patience.timeout, progress)
            return
        except (_Broken, requests.RequestException) as problem:
            reason = _reason(problem)
            arrived = part.stat().st_size if part.exists() else 0
            failures = 1 if arrived > furthest >= 0 else failures + 1
            furthest = max(arrived, furthest)
            if not _is_passing(problem) or failures > patience.retries:
                raise DataError(_gave_up(url, reason, arrived)) from problem
        except OSError as problem:
            msg = (
                f"{part.parent} takes no more ({problem.strerror}); make room, or name another folder in "
                "SCMODELFORGE_DATASETS. What has arrived is kept; the same command goes on with it."
            )
            raise DataError(msg) from problem
        pause = min(patience.pause * 2 ** (failures - 1), _LONGEST_PAUSE)
        _log.info(f"{shown_address(url)}: {reason}; trying again in {pause:g} s")
        time.sleep(pause)


def forget_part(part: Path) -> None:
    """Remove a part that arrived, and the note on it."""
    for file in (part, _note_path(part)):
        file.unlink(missing_ok=True)


def shown_address(url: str) -> str:
    """Return an address without name, password and query, which may be secrets."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"


@dataclass(frozen=True, slots=True)
class _Version:
    """Which version of which file a part is of.

    Attributes
    ----------
    address
        Hash of the address.
    mark
        The server's ETag, or its time of the last change; empty if it gives neither.
    size
        Bytes of the whole file, 0 if the server does not say.
    """

    address: str
    mark: str
    size: int

    @classmethod
    def of(cls, url: str, headers: Any, size: int) -> _Version:
        etag = headers.get("ETag", "")
        mark = headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
        return cls(_address(url), mark, size)


class _Receiver:
    """Looks at each answer before its body is read, and puts the file to where the body belongs."""

    def __init__(self, url: str, part: Path, file: IO[bytes], progress: Progress | None) -> None:
        self._url, self._part, self._file, self._progress = url, part, file, progress
        note = _read_note(part)
        known = note is not None and note.address == _address(url) and note.mark
        self._wanted = note if known else None
        self.total = 0  # pooch sets it too, to the size of this body
        self.size = 0
        self.is_complete = False
        self.response: Any = None

    def headers(self) -> dict[str, str]:
        """Return what to ask for: the rest of the version that has begun to arrive, if any."""
        position = self._file.seek(0, 2)
        plain = {"Accept-Encoding": "identity"}  # a packed body has other positions
        if not position or self._wanted is None:
            return plain
        return {**plain, "Range": f"bytes={position}-", "If-Range": self._wanted.mark}

    def answered(self, response: Any, **_: Any) -> None:
        """Take an answer's head."""
        self.response = response
        if response.is_redirect:
            return
        position = self._file.seek(0, 2)
        if response.status_code == 416 and self._wanted is not None and position == self._wanted.size:
            self.size, self.is_complete = position, True
        elif response.status_code in (206, 416):
            self._go_on(response, position)
        elif response.status_code == 200:
            self._begin(response)

    def update(self, _: int) -> None:
        """Tell how far it is; called by pooch for each chunk."""
        if self._progress is not None:
            self._progress(self._file.tell(), self.size)

    def reset(self) -> None:
        """Do nothing: pooch calls it at the end."""

    close = reset

    def _go_on(self, response: Any, position: int) -> None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        size = int(found[2]) if found else 0
        is_same = found and int(found[1]) == position and self._wanted == _Version.of(self._url, response.headers, size)
        if not is_same:
            self._file.seek(0)
            self._file.truncate()
            _note_path(self._part).unlink(missing_ok=True)
            msg = "the server has another version than the one that had begun to arrive"
            raise _Broken(msg)
        self._expect(size, position)

    def _begin(self, response: Any) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            msg = f"{shown_address(self._url)} is sent packed, which cannot be checked; download it by hand."
            raise DataError(msg)
        size = int(response.headers.get("Content-Length", 0))
        self._file.seek(0)
        self._file.truncate()
        _note_path(self._part).write_text(json.dumps(asdict(_Version.of(self._url, response.headers, size))))
        self._expect(size, 0)

    def _expect(self, size: int, position: int) -> None:
        self.size = size
        free = shutil.disk_usage(self._part.parent).free
        if size - position > free:
            msg = (
                f"{self._part.parent} has {free / 1e9:,.1f} GB free, and {(size - position) / 1e9:,.1f} GB are still "
                "to come; make room, or name another folder in SCMODELFORGE_DATASETS."
            )
            raise DataError(msg)


def _attempt(url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    import pooch
    import requests

    with part.open("r+b" if part.exists() else "w+b") as file:
        receiver = _Receiver(url, part, file, progress)
        get = pooch.HTTPDownloader(
            progressbar=receiver,
            chunk_size=_CHUNK,
            timeout=timeout,
            headers=receiver.headers(),
            hooks={"response": receiver.answered},
        )
        try:
            get(url, file, None)
        except requests.HTTPError:
            if not receiver.is_complete:
                raise
        finally:
            if receiver.response is not None:
                receiver.response.close()  # pooch leaves open what it has not read to its end
        arrived = file.tell()
    if receiver.size and arrived != receiver.size:
        msg = f"the connection ended after {arrived:,} of {receiver.size:,} bytes"
        raise _Broken(msg)


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_note_path(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None  # absent or cut off: the file is begun anew


def _address(url: str) -> str:
    return sha256(url.partition("?")[0].encode()).hexdigest()


def _is_passing(problem: Exception) -> bool:
    import requests

    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return problem.response.status_code in _PASSING
    kinds = (_Broken, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(problem, kinds) and not isinstance(problem, requests.exceptions.SSLError)


def _reason(problem: Exception) -> str:
    """Return why a request failed, in a few words without the address, which may hold secrets."""
    import requests

    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"the server answers {problem.response.status_code} {problem.response.reason}"
    if isinstance(problem, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(problem, requests.Timeout) or "timed out" in str(problem):
        return "the server does not answer in time"
    if isinstance(problem, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(problem, requests.ConnectionError):
        return "the server cannot be reached"
    return str(problem) if isinstance(problem, _Broken) else type(problem).__name__


def _gave_up(url: str, reason: str, arrived: int) -> str:
    kept = f" {arrived / 1e6:,.1f} MB have arrived and are kept; the same command goes on with them." if arrived else ""
    return (
        f"{shown_address(url)}: {reason}.{kept} Try later, or get the file elsewhere and give its address or path with "
        "--from."
    )
