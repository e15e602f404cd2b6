"""Where this machine keeps what was fetched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return where fetched files are kept.

    That is ``SCMODELFORGE_CACHE``, or ``scmodelforge`` in the folder the platform has for such files:
    ``XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches``, on Windows ``LOCALAPPDATA``.
    """
    own = os.environ.get("SCMODELFORGE_CACHE")
    if own:
        return Path(own).expanduser()
    usual = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA") or "~/AppData/Local"}
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given or usual.get(sys.platform, "~/.cache")).expanduser() / "scmodelforge"
