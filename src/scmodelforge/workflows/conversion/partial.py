"""What a conversion has done so far: a folder beside the output that a repeated call finds again."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError, Interrupted, UserError
from scmodelforge.workflows.conversion.output import partial_of

__all__ = ["HopelessError", "Partial", "keeping"]

_log = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class HopelessError(DataError):
    """What the same command would meet again: nothing of the work is of use."""


class Partial:
    """An unfinished conversion.

    Parameters
    ----------
    folder
        Its folder.
    state
        What is done: ``identity``, ``tables`` (written), ``scattered`` (cells), ``sizes`` (bytes of the buckets),
        ``seen`` (of the values) and ``datasets`` (that are complete).
    num_cells
        Number of cells.

    Attributes
    ----------
    lengths
        Number of values of each cell in the order of the output, shape (cells,), uint32, on the disk.
    """

    def __init__(self, folder: Path, state: dict[str, Any], num_cells: int) -> None:
        self.folder, self.state = folder, state
        path = folder / "lengths"
        mode: Any = "r+" if path.exists() and path.stat().st_size == 4 * num_cells else "w+"
        self.lengths = np.memmap(path, dtype=np.uint32, mode=mode, shape=(num_cells,))

    @classmethod
    @contextmanager
    def open(cls, out: Path, *, identity: str, num_cells: int) -> Iterator[Partial]:
        """Find the unfinished conversion of the same cells and settings, or begin a new one; for one process.

        Raises
        ------
        DataError
            If another process is at it, or if the folder's name is taken by something else.
        """
        folder = partial_of(out)
        state = _read_state(folder)
        if state is None and folder.exists() and not _is_ours(folder):
            msg = f"{folder} is needed for unfinished work but holds something else; move it away, or name another OUT."
            raise DataError(msg)
        folder.mkdir(exist_ok=True)
        with _locked(folder):
            state = _read_state(folder)
            if state is not None and state["identity"] != identity:
                _log.info(f"{folder} is of other inputs or settings: beginning anew")
                state = None
            if state is not None and state["tables"] and not (folder / "store").is_dir():
                state = None  # stopped after the store had got its name
            if state is None:
                state = {"identity": identity, "tables": False, "scattered": 0, "sizes": [], "seen": {}, "datasets": []}
                for path in folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                    elif path.name != "lock":
                        path.unlink()
            elif state["scattered"] or state["tables"]:
                _log.info(f"going on with {folder}")
            partial = cls(folder, state, num_cells)
            partial.save()
            yield partial

    @property
    def store(self) -> Path:
        """The output as far as it is written."""
        return self.folder / "store"

    @property
    def buckets(self) -> Path:
        """Folder of the buckets."""
        return self.folder / "buckets"

    def save(self, **changes: Any) -> None:
        """Change the state on the disk; what it tells of must be there already."""
        self.lengths.flush()
        self.state.update(changes)
        temporary = self.folder / "state.json.writing"
        temporary.write_text(json.dumps(self.state))
        temporary.replace(self.folder / "state.json")

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def num_bytes(self) -> int:
        """Return how much is written already."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def keeping(partial: Partial) -> Iterator[None]:
    """Let whoever stops in here leave what can be gone on from, and nothing else, and say so.

    Raises
    ------
    DataError
        In place of an OSError, in one line. Every error a user can mend gets a sentence on what is kept.
    Interrupted
        After Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        kept = _tidy(partial)
        msg = f"stopped; {kept}." if kept else "stopped before anything was done; nothing is kept."
        raise Interrupted(msg) from stop
    except HopelessError:
        partial.remove()
        raise
    except UserError as problem:
        kept = _tidy(partial)
        raise type(problem)(f"{problem}{_sentence(kept)}") from problem
    except OSError as problem:
        kept = _tidy(partial)
        where = problem.filename or partial.folder
        if problem.errno in _NO_SPACE:
            msg = f"the disk of {partial.folder} is full; make room.{_sentence(kept)}"
        else:
            msg = f"{where}: {problem.strerror or problem}; mend that, and repeat the command.{_sentence(kept)}"
        raise DataError(msg) from problem


def _tidy(partial: Partial) -> str:
    """Return what is kept, and how to go on; remove a folder that holds nothing of use."""
    if not partial.state["tables"]:
        partial.remove()
        return ""
    what = "what was done" if partial.state["scattered"] else "no cell yet, but what was done of obs and var"
    return f"{what} is kept in {partial.folder}, and the same command goes on from there"


def _sentence(kept: str) -> str:
    return f" {kept[0].upper()}{kept[1:]}." if kept else ""


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):  # none, or killed before the first was complete
        return None
    return found


def _is_ours(folder: Path) -> bool:
    """Tell whether there is nothing but what a process leaves that is killed right at the beginning."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {"lock", "lengths", "state.json.writing"}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        with suppress(ImportError):  # no such locks on Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"{folder} is being worked at by another process; wait for it, or name another OUT."
                raise DataError(msg) from None
        yield
