"""What happened to a run: when each session began and how it ended, and every warning, in ``sessions.jsonl``.

One JSON object a line: ``start`` (with the step it went on from), ``warning``, ``end`` (with its outcome:
``finished``, ``interrupted`` or ``failed``). A session that was killed has no ``end``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from scmodelforge._console import is_first_process
from scmodelforge._errors import Interrupted

__all__ = ["Journal", "is_alive"]

_MOST_WARNINGS = 200


class Journal:
    """Keeps the journal of a run while it is open. Only the first process writes.

    Warnings before :meth:`begin` are kept and written then, since a new run has no folder before.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._waiting: list[dict[str, Any]] = []
        self._handler = _Warnings(self)
        self._num_warnings = 0

    def begin(self, folder: Path, *, step: int) -> None:
        """Begin a session in a run's folder, going on after a step."""
        if is_first_process():
            self._path = Path(folder) / "sessions.jsonl"
            self._write({"event": "start", "step": step, **_this_process()})
            for event in self._waiting:
                self._write(event)
            self._waiting.clear()

    def warn(self, message: str) -> None:
        """Note a warning."""
        self._num_warnings += 1
        if self._num_warnings > _MOST_WARNINGS:
            return
        event = {"event": "warning", "text": message}
        if self._path is None:
            self._waiting.append(event)
        else:
            self._write(event)

    def __enter__(self) -> Journal:
        logging.getLogger("scmodelforge").addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logging.getLogger("scmodelforge").removeHandler(self._handler)
        if self._path is None:
            return
        if error is None:
            self._write({"event": "end", "outcome": "finished"})
        elif isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
            self._write({"event": "end", "outcome": "interrupted", "why": _first_line(error)})
        else:
            self._write({"event": "end", "outcome": "failed", "why": _first_line(error)})

    def _write(self, event: dict[str, Any]) -> None:
        """Append an event. A full disk must not hide the error that it caused."""
        assert self._path is not None
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as problem:
            logging.getLogger(__name__).debug(f"{self._path}: {problem}")


class _Warnings(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__(level=logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.warn(record.getMessage())


def is_alive(start: dict[str, Any]) -> bool | None:
    """Tell whether the process that began a session still runs; ``None`` if it runs on another machine, if at all."""
    if start.get("host") != socket.gethostname():
        return None
    pid = start.get("pid")
    if not isinstance(pid, int):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's, so there is one
    return start.get("process_start") == _process_start(pid)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "process_start": _process_start(pid)}


def _process_start(pid: int) -> str | None:
    """Return when a process began, as its system counts: numbers of processes are used again. ``None`` if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
