"""What the first process does alone while the others wait, for as long as it takes.

In a collective they would give up after a while, though it does nothing wrong (it scores, or copies a large model). So
they look into the key-value store of the process group: the first process shows there that it lives, and that it is
done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import LostProcess
from scmodelforge.training._launch import PATIENCE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["others_waiting"]

_SECONDS_BETWEEN_BEATS, _SECONDS_BETWEEN_LOOKS = 5.0, 0.05
_DONE, _FAILED = b"done", b"failed"
#: All processes wait for the same things in the same order.
_NUMBERS = count()


@contextmanager
def others_waiting(fabric: Fabric) -> Iterator[None]:
    """Have all other processes wait at the end of the body until the first one is there. All must enter it.

    Raises
    ------
    LostProcess
        On the others, if the first one failed in the body, is gone, or gave no sign of life for :data:`PATIENCE`.
    """
    if fabric.world_size == 1:
        yield
        return
    from torch.distributed.distributed_c10d import _get_default_store

    store, key = _get_default_store(), f"scmodelforge/first/{next(_NUMBERS)}"
    if not fabric.is_global_zero:
        yield
        wait_for_first(store, key, patience=PATIENCE.total_seconds())
        return
    with showing_life(store, key, every=_SECONDS_BETWEEN_BEATS):
        yield


@contextmanager
def showing_life(store: Any, key: str, *, every: float) -> Iterator[None]:
    """Count in a store while the body runs, and say there how it ended."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.is_set():
            store.add(f"{key}/beat", 1)
            is_over.wait(every)

    thread = threading.Thread(target=beat, daemon=True, name="signs of life")
    thread.start()
    outcome = _FAILED
    try:
        yield
        outcome = _DONE
    finally:
        is_over.set()
        thread.join()
        store.set(f"{key}/end", outcome)


def wait_for_first(store: Any, key: str, *, patience: float, every: float = _SECONDS_BETWEEN_LOOKS) -> None:
    """Wait until the body of :func:`showing_life` has ended, as long as there are signs of life.

    Raises
    ------
    LostProcess
        If it failed, or there was none for ``patience`` seconds, or the store is gone.
    """
    beats, last_sign = 0, time.monotonic()
    try:
        while not store.check([f"{key}/end"]):
            found = store.add(f"{key}/beat", 0)
            if found != beats:
                beats, last_sign = found, time.monotonic()
            elif time.monotonic() - last_sign > patience:
                msg = f"the first process of this run has given no sign of life for {patience:.0f} s"
                raise LostProcess(f"{msg}, so this one ends too; go on from its last checkpoint with --resume.")
            time.sleep(every)
        outcome = store.get(f"{key}/end")
    except RuntimeError as problem:
        if isinstance(problem, LostProcess):
            raise
        raise LostProcess(f"{_GONE}.") from problem
    if outcome != _DONE:
        raise LostProcess(f"{_GONE}; its own message says why.")


_GONE = "the first process of this run has ended, so this one ends too"
