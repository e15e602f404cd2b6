"""Files that commands write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scmodelforge._errors import DataError

__all__ = ["check_output", "whole_file"]


def check_output(path: Path, *, force: bool) -> None:
    """Make sure that a file can be written, before any work is done for it.

    Raises
    ------
    DataError
        If it exists and ``force`` is not set, is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        msg = f"{path} is a folder; name a file in it."
        raise DataError(msg)
    if path.exists() and not force:
        msg = f"{path} exists; choose another name, or replace it with --force."
        raise DataError(msg)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as problem:
        msg = f"cannot write to {path.parent} ({problem.strerror}); make the folder, or choose one you may write to."
        raise DataError(msg) from problem


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Turn a failure while a file is written beside itself, as ``NAME.writing``, into one line; nothing of it stays.

    Raises
    ------
    DataError
        If it cannot be written: the disk is full, say.
    """
    try:
        yield
    except OSError as problem:
        path.with_name(path.name + ".writing").unlink(missing_ok=True)
        msg = f"{path} cannot be written ({problem.strerror or problem}); make room, or name another place."
        raise DataError(msg) from problem
