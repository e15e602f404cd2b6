"""Figures and texts as people read them."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

__all__ = ["command_path", "count", "duration", "number", "percent", "size", "without_places"]

# A word that begins with a slash (or ~/, or C:\): neither the second half of a URL nor of a relative path.
_PLACE = re.compile(r"(?<![\w.:/\\~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\",;:=/\\]+[/\\])+(?=[^\s'\",;:=/\\])")
_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\"]+")


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure with some significant digits, thousands apart; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-3:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:.{places}f}"


def count(value: int | None) -> str:
    """Return a count with its thousands apart; a dash for none."""
    return "-" if value is None else f"{value:,}"


def size(value: float) -> str:
    """Return a large count in short: ``1.2 million``, ``340,000``."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"


def duration(seconds: float | None) -> str:
    """Return a time in its two largest units."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    for unit, name, smaller, small_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {small_name}"
    return f"{whole} s"


def without_places(text: str) -> str:
    """Return a text with folders of this machine left out of paths, and the secrets of signed URLs."""
    return _PLACE.sub("…/", _QUERY.sub(r"\1?…", text))


def command_path(path: Path) -> str:
    """Return a path as a command may name it, quoted: as it was given, of an absolute one the name only."""
    return shlex.quote(path.name if path.is_absolute() else str(path))
