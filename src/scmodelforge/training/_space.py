"""Whether a checkpoint has room on its file system."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["check_space", "in_units", "size_of"]

#: What is wanted beyond the size: file systems need some for themselves, and the run goes on writing metrics.
_MARGIN, _LEAST_MARGIN = 0.05, 1 << 20


def check_space(folder: Path, num_bytes: int) -> None:
    """Make sure that some bytes can be written to a folder.

    Parameters
    ----------
    folder
        An existing folder.
    num_bytes
        How many will be written.

    Raises
    ------
    OSError
        If the file system has less room than that and a margin.
    """
    needed = num_bytes + max(_LEAST_MARGIN, int(_MARGIN * num_bytes))
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"it needs {in_units(needed)}, {in_units(free)} are free in the file system of {folder}"
        raise OSError(errno.ENOSPC, what)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(os.path.getsize(Path(parent) / name) for parent, _, names in os.walk(folder) for name in names)


def in_units(num_bytes: int) -> str:
    """Return a size in the unit that suits it, as ``1.2 GB``; a gigabyte is 10^9 bytes."""
    power = min(4, (len(str(num_bytes)) - 1) // 3)
    return f"{num_bytes / 1000**power:,.1f} {('', 'k', 'M', 'G', 'T')[power]}B"
