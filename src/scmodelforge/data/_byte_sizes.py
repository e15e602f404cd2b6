"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

__all__ = ["format_bytes", "parse_bytes"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?) *(?:([KMGT]?)(i?)B)?", re.IGNORECASE)


def parse_bytes(size: int | str) -> int:
    """Return a number of bytes that is given as such or as text: ``2GB``, ``512 MiB``, ``1000000``.

    Raises
    ------
    ValueError
        If it is none; the message quotes it.
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size.strip())
    if not found or (found[3] and not found[2]):
        msg = f"'{size}' is no size; write a number of bytes, or a number with a unit such as 500MB, 20GB or 1TiB"
        raise ValueError(msg)
    number, prefix, is_binary = found.groups()
    power = " KMGT".index(prefix.upper()) if prefix else 0
    return int(float(number) * (1024 if is_binary else 1000) ** power)


def format_bytes(size: int) -> str:
    """Return a number of bytes as text, in the unit that fits: ``512 bytes``, ``3.1 kB``, ``20.0 GB``."""
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    number = float(size)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:  # what is more would be shown as 1,000.0
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} TB"
