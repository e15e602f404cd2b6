"""No automatic garbage collection while h5py reads a remote file."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collection_paused"]

_lock = threading.Lock()
_inside = 0
_was_enabled = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep all threads from collecting garbage.

    h5py holds its lock while it waits for the bytes of a remote file, which other threads fetch. If one of these
    happened to collect a forgotten file of h5py, it would wait for that lock, and both for ever. Objects are still
    freed when their last reference goes, and an explicit ``gc.collect()`` works.
    """
    global _inside, _was_enabled
    with _lock:
        if not _inside:
            _was_enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _was_enabled:
                gc.enable()
