"""Model folders that commands write: whole or not at all, and nothing else is replaced."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scmodelforge._errors import DataError

__all__ = ["new_folder"]


@contextmanager
def new_folder(out: Path, *, force: bool, made_by_us: tuple[str, ...] = ("config.json",)) -> Iterator[Path]:
    """Give a folder to write to, which takes the place of ``out`` at the end of the block, unless that fails.

    Parameters
    ----------
    out
        The folder to write; it may be there and empty.
    force
        Replace a folder that is there.
    made_by_us
        Entries by which a folder that may be replaced is known: one of them is in it.

    Raises
    ------
    DataError
        If the folder may not be replaced, or cannot be written.
    """
    _check(out, force=force, made_by_us=made_by_us)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as problem:
        msg = f"cannot write to {out.parent} ({problem.strerror}); choose a folder you may write to."
        raise DataError(msg) from problem
    new, old = staging / "new", staging / "old"
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    except OSError as problem:
        msg = f"{out} cannot be written ({problem.strerror or problem}); what was there is unchanged."
        raise DataError(msg) from problem
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(staging, ignore_errors=True)


def _check(out: Path, *, force: bool, made_by_us: tuple[str, ...]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        msg = f"{out} exists; choose another name, or replace it with --force."
        raise DataError(msg)
    if not any((out / name).exists() for name in made_by_us):
        msg = f"{out} holds something else ({', '.join(made_by_us)} not in it), so it is not replaced; choose another."
        raise DataError(msg)
