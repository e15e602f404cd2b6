"""Several requests under way at a time, with the results and errors of one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["several_at_once"]

_MOST = 8

T = TypeVar("T")
R = TypeVar("R")


def several_at_once(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what work makes of each item, in their order, done in a few threads if there are several.

    Of errors the one of the first item that has any is raised, whichever came first; what has not begun is left out.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_MOST, len(items))) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
