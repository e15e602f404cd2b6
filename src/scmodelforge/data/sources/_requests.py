"""Which requests to send for some ranges of a file: near ones together, many under way, given out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Request", "by_blocks", "coalesced", "in_order"]

#: Bytes that are read in vain rather than sending another request: as many as come while one is answered.
_GAP = 1 << 20
#: Bytes of a request that serves several ranges.
_MOST = 4 << 20


@dataclass(slots=True)
class Request:
    """A part of a file that is fetched at once.

    Attributes
    ----------
    start, stop
        First byte and end.
    pieces
        First byte and end of each piece that is wanted of it.
    """

    start: int
    stop: int
    pieces: list[tuple[int, int]] = field(default_factory=list)


#: For each range the pieces it is made of: number of the request, number of the piece in it.
Needs = list[list[tuple[int, int]]]


def coalesced(starts: np.ndarray, sizes: np.ndarray) -> tuple[list[Request], Needs]:
    """Return requests for some ranges; ranges less than 1 MiB apart share one.

    A request reads no more in vain than what is wanted of it, and has at most 4 MiB unless a single range has more.

    Parameters
    ----------
    starts, sizes
        First byte and number of bytes of each range, shape (n,), int64, in any order.
    """
    requests: list[Request] = []
    needs: Needs = [[] for _ in starts]
    wanted = 0
    for number in np.argsort(starts, kind="stable").tolist():
        start, stop = int(starts[number]), int(starts[number] + sizes[number])
        if start == stop:
            continue
        last = requests[-1] if requests else None
        gap = start - last.stop if last else 0
        if last is None or gap > _GAP or max(stop, last.stop) - last.start > _MOST or _in_vain(last, gap, wanted):
            last = Request(start, stop)
            requests.append(last)
            wanted = 0
        wanted += stop - start
        last.stop = max(last.stop, stop)
        needs[number].append((len(requests) - 1, len(last.pieces)))
        last.pieces.append((start, stop))
    return requests, needs


def by_blocks(starts: np.ndarray, sizes: np.ndarray, *, block: int, size: int) -> tuple[list[Request], Needs]:
    """Return a request for each block of a file that has a part of the ranges.

    Parameters
    ----------
    starts, sizes
        As in :func:`coalesced`.
    block
        Bytes of a block; they begin at its multiples.
    size
        Bytes of the file.
    """
    requests: list[Request] = []
    numbers: dict[int, int] = {}
    needs: Needs = []
    for start, length in zip(starts.tolist(), sizes.tolist(), strict=True):
        need = []
        for at in range(start // block, -(-(start + length) // block) if length else 0):
            number = numbers.setdefault(at, len(requests))
            if number == len(requests):
                requests.append(Request(at * block, min((at + 1) * block, size)))
            request = requests[number]
            need.append((number, len(request.pieces)))
            request.pieces.append((max(start, request.start), min(start + length, request.stop)))
        needs.append(need)
    return requests, needs


def in_order(
    requests: list[Request], needs: Needs, submit: Callable[[Request], Future[list[bytes]]], *, ahead: int
) -> Iterator[bytes]:
    """Send requests and return an iterator over the ranges. The first requests are under way on return.

    Parameters
    ----------
    requests, needs
        What :func:`coalesced` or :func:`by_blocks` gave.
    submit
        Begins a request; its result are the pieces.
    ahead
        Requests that are under way or wait to be used.
    """
    delivery = _Delivery(requests, deque(dict.fromkeys(number for need in needs for number, _ in need)), submit, ahead)
    delivery.send()
    return delivery.take(needs)


class _Delivery:
    """Requests under way, those needed first sent first."""

    def __init__(
        self,
        requests: list[Request],
        waiting: deque[int],
        submit: Callable[[Request], Future[list[bytes]]],
        ahead: int,
    ) -> None:
        self._requests, self._waiting, self._submit, self._ahead = requests, waiting, submit, ahead
        self._under_way: dict[int, Future[list[bytes]]] = {}

    def send(self) -> None:
        while self._waiting and len(self._under_way) < self._ahead:
            self._send_next()

    def take(self, needs: Needs) -> Iterator[bytes]:
        left = [len(request.pieces) for request in self._requests]
        try:
            for need in needs:
                parts = []
                for number, piece in need:
                    if number not in self._under_way:  # all that are under way serve later ranges too
                        self._send_next()
                    parts.append(self._under_way[number].result()[piece])
                    left[number] -= 1
                    if not left[number]:
                        del self._under_way[number]
                        self.send()
                yield parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            for future in self._under_way.values():
                future.cancel()

    def _send_next(self) -> None:
        number = self._waiting.popleft()
        self._under_way[number] = self._submit(self._requests[number])


def _in_vain(request: Request, gap: int, wanted: int) -> bool:
    """Return whether bridging a gap reads more in vain than is wanted."""
    return max(gap, 0) + request.stop - request.start - wanted > wanted
