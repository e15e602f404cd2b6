"""Copies of tensors in the host's memory, which is kept from one checkpoint to the next."""

from __future__ import annotations

import torch

__all__ = ["HostCopies"]


class HostCopies:
    """Copies one set of tensors after another into the same memory.

    Fresh memory costs more than the copy itself: the system hands it out page by page, and pinning it for a GPU is
    slower still. The n-th tensor of a set takes the place of the n-th of the set before, if it has its shape.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []
        self._next = 0
        self._is_waited_for = True

    def restart(self) -> None:
        """Begin another set. The copies of the one before are overwritten, so they must no longer be needed."""
        self._next = 0

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a contiguous copy on the host. From a GPU it is whole after :meth:`wait` only."""
        source = tensor.detach()
        buffer = self._buffers[self._next] if self._next < len(self._buffers) else None
        if buffer is None or (buffer.shape, buffer.dtype) != (source.shape, source.dtype):
            buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
            self._buffers[self._next : self._next + 1] = [buffer]
        self._next += 1
        buffer.copy_(source, non_blocking=source.is_cuda)
        self._is_waited_for &= not source.is_cuda
        return buffer

    def wait(self) -> None:
        """Wait for the copies from a GPU."""
        if not self._is_waited_for:
            torch.cuda.current_stream().synchronize()
            self._is_waited_for = True
