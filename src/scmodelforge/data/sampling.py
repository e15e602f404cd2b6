"""One global order of the training cells, the same for every number of devices and threads.

A pass over the data is laid out in four steps; each is a pure function of (seed, pass), nothing is remembered.

1. Neighbouring selected cells of a file form *blocks*; the pass permutes the blocks.
2. The resulting sequence of N cells is cut into S *streams* of (N + S - 1 - s) // S cells.
3. Each stream is cut into *windows* of ``buffer_size // S`` cells, the first one shorter so that those of different
   streams end one after another, and the cells of a window are permuted.
4. Position x of the global order is element x // S of stream x % S. A global batch is a range of positions, so it
   mixes all streams, and the process that owns stream s finds its share by arithmetic alone.

Blocks make reading fast, windows and streams make neighbours of a file strangers. With few cells the blocks shrink
(see :func:`effective_block_size`), down to single cells, which is a full shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import DataError, require_whole
from scmodelforge.data.draws import generator

__all__ = ["FilePart", "GlobalOrder", "Window", "effective_block_size"]

_BLOCKS_PER_STREAM = 64  # fewer blocks than this mix badly
_UNSHUFFLED_WINDOW = 1024  # cells; without a shuffle a larger window only costs memory
_CELLS_PER_STEP = 1 << 16  # bounds the temporary arrays while the block table is made


@dataclass(frozen=True, slots=True)
class FilePart:
    """The cells of a window that are in one file.

    Attributes
    ----------
    file
        Number of the file.
    rows
        Row of each cell in the file, shape (n,), int64, in window order.
    slots
        Place of each cell in the window, shape (n,), ascending.
    """

    file: int
    rows: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True, slots=True)
class Window:
    """The cells of one window of one stream.

    Attributes
    ----------
    parts
        What to read of each file. With weighted sampling a cell may occur several times.
    positions
        Position in the source of each cell, in window order, shape (n,), int64.
    global_positions
        Position in the global order of each cell, in window order, shape (n,), int64.
    """

    parts: list[FilePart]
    positions: np.ndarray
    global_positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


class GlobalOrder:
    """The order in which the selected cells of a source are seen.

    Memory: the positions, one integer for each block, and two for each block of the passes in use.

    Parameters
    ----------
    source_sizes
        Number of cells of each file of the source.
    positions
        Positions in the source of the selected cells, shape (N,), int64, ascending. Kept, not copied.
    seed
        Seed of the permutations.
    block_size
        Neighbouring rows read together.
    buffer_size
        Cells of all windows together.
    num_streams
        Number of streams, a multiple of the number of processes (see :meth:`for_world`).
    shuffle
        Whether blocks and windows are permuted. If not, the streams are consecutive parts of the source.

    Attributes
    ----------
    sampling
        How often cells are seen and what makes a batch, in words.

    Raises
    ------
    DataError
        If there are no cells.
    ConfigError
        If a number is not a whole one, or too small.
    """

    sampling = "uniform"

    def __init__(
        self,
        source_sizes: Sequence[int],
        positions: np.ndarray,
        *,
        seed: int,
        block_size: int,
        buffer_size: int,
        num_streams: int,
        shuffle: bool,
    ) -> None:
        for name, value in (("block_size", block_size), ("buffer_size", buffer_size), ("num_streams", num_streams)):
            require_whole(name, value, 1)
        self.positions = np.asarray(positions, dtype=np.int64)
        self.num_cells = len(self.positions)
        self.seed = seed
        self.num_streams = num_streams
        self.shuffle = shuffle
        self._settings = {"block_size": block_size, "buffer_size": buffer_size}
        self._sizes = [int(size) for size in source_sizes]
        self._file_starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        self._check()
        window = max(1, buffer_size // num_streams)
        self.window_size = window if shuffle else min(window, _UNSHUFFLED_WINDOW)
        self.block_size = effective_block_size(self.num_cells, num_streams, block_size) if shuffle else block_size
        self._bounds = _block_bounds(self.positions, self._file_starts, self.block_size)
        self._layouts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def for_world(self, world_size: int) -> GlobalOrder:
        """Return this order with a number of streams that ``world_size`` processes can share.

        A number of processes that divides the number of streams gives the same order. For others the number of
        streams rises to the next multiple, which is another order. Unshuffled, each process has one stream.
        """
        streams = -(-self.num_streams // world_size) * world_size if self.shuffle else world_size
        return self if streams == self.num_streams else self._with_streams(streams)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of global batches of a pass."""
        return -(-self.num_cells // batch_size)

    def batch_range(self, data_pass: int, batch: int, batch_size: int) -> tuple[int, int]:
        """Return the first global position of a global batch of a pass, and the one after its last."""
        start = batch * batch_size
        return start, min(start + batch_size, self.num_cells)

    def stream_size(self, stream: int) -> int:
        """Return the number of cells of a stream; it may be 0."""
        return self.first_element(stream, self.num_cells)

    def num_windows(self, stream: int) -> int:
        """Return the number of windows of a stream."""
        return self.locate(stream, self.stream_size(stream) - 1)[0] + 1 if self.stream_size(stream) else 0

    def window_start(self, stream: int, index: int) -> int:
        """Return the first element of a window of a stream."""
        return max(0, index * self.window_size - self._missing(stream))

    def locate(self, stream: int, element: int) -> tuple[int, int]:
        """Return the window that an element of a stream lies in, and its place there."""
        index = (element + self._missing(stream)) // self.window_size
        return index, element - self.window_start(stream, index)

    def first_element(self, stream: int, position: int) -> int:
        """Return the first element of a stream that lies at or after a position of the global order."""
        return (position + self.num_streams - 1 - stream) // self.num_streams

    def window(self, data_pass: int, stream: int, index: int) -> Window:
        """Return what to read for a window of a stream in a pass, and the order of its cells."""
        start = self.window_start(stream, index)
        stop = min(self.window_start(stream, index + 1), self.stream_size(stream))
        if index < 0 or start >= stop:
            msg = f"stream {stream} has {self.num_windows(stream)} windows, no window {index}"
            raise IndexError(msg)
        share, extra = divmod(self.num_cells, self.num_streams)  # the first `extra` streams have one cell more
        offset = stream * share + min(stream, extra)
        cells = self._sequence(data_pass, offset + start, offset + stop)
        if self.shuffle:
            draws = generator(self.seed, "window", data_pass, stream, index)
            cells = self._permuted(cells, data_pass, offset + start, draws)
        global_positions = np.arange(start, stop, dtype=np.int64) * self.num_streams + stream
        return Window(self._parts(cells), cells, global_positions)

    def _with_streams(self, num_streams: int) -> GlobalOrder:
        return GlobalOrder(
            self._sizes, self.positions, seed=self.seed, num_streams=num_streams, shuffle=self.shuffle, **self._settings
        )

    def _permuted(self, cells: np.ndarray, data_pass: int, start: int, draws: np.random.Generator) -> np.ndarray:
        """Return the cells of a window, which begins at ``start`` of the pass's sequence, in their final order."""
        return draws.permutation(cells)

    def _missing(self, stream: int) -> int:
        """Return by how many cells the first window of a stream is shorter than the others.

        The streams' windows end one after another, so that they need not all be read at once.
        """
        return self.window_size * (self.num_streams - 1 - stream) // self.num_streams

    def _check(self) -> None:
        if self.num_cells == 0:
            msg = "There are no cells to load; check data.split and the number of empty cells."
            raise DataError(msg)
        ascending = bool((self.positions[1:] > self.positions[:-1]).all())
        if not ascending or self.positions[0] < 0 or self.positions[-1] >= sum(self._sizes):
            msg = f"positions must be ascending, without duplicates and below {sum(self._sizes)}"
            raise ValueError(msg)

    def _layout(self, data_pass: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks of a pass in order, and where each ends in the pass's sequence of cells."""
        if data_pass not in self._layouts:
            lengths = np.diff(self._bounds)
            order = np.arange(len(lengths))
            if self.shuffle:
                order = generator(self.seed, "blocks", data_pass).permutation(order)
            while len(self._layouts) > 1:  # a pass and the next one are in use at a time
                self._layouts.pop(min(self._layouts))
            self._layouts[data_pass] = order, np.cumsum(lengths[order])
        return self._layouts[data_pass]

    def _sequence(self, data_pass: int, start: int, stop: int) -> np.ndarray:
        """Return the source positions of a range of the pass's sequence of cells, before windows are permuted."""
        order, ends = self._layout(data_pass)
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        blocks = order[first : last + 1]
        cells = np.concatenate([self.positions[self._bounds[b] : self._bounds[b + 1]] for b in blocks])
        skipped = start - int(ends[first - 1]) if first else start
        return cells[skipped : skipped + stop - start]

    def _parts(self, cells: np.ndarray) -> list[FilePart]:
        """Return the cells of each file among source positions in window order."""
        files = np.searchsorted(self._file_starts, cells, side="right") - 1
        parts = []
        for file in np.unique(files).tolist():
            slots = np.flatnonzero(files == file)
            parts.append(FilePart(file, cells[slots] - self._file_starts[file], slots))
        return parts


def effective_block_size(num_cells: int, num_streams: int, block_size: int) -> int:
    """Return the block size in use: the setting, or less where a stream would have fewer than 64 blocks.

    With 8 streams and blocks of 64 rows that concerns data sets of fewer than 32,768 cells; below 1,024 cells each
    cell is a block of its own.
    """
    return max(1, min(block_size, num_cells // (num_streams * _BLOCKS_PER_STREAM)))


def _block_bounds(positions: np.ndarray, file_starts: np.ndarray, block_size: int) -> np.ndarray:
    """Return where each block of (file, row // block_size) begins in ``positions``, and the end of the last one."""
    cuts = [np.zeros(1, dtype=np.int64)]
    for step in range(0, len(positions), _CELLS_PER_STEP):
        first = max(step - 1, 0)
        cells = positions[first : step + _CELLS_PER_STEP]
        files = np.searchsorted(file_starts, cells, side="right") - 1
        blocks = (cells - file_starts[files]) // block_size
        cuts.append(np.flatnonzero((np.diff(files) != 0) | (np.diff(blocks) != 0)) + first + 1)
    return np.concatenate([*cuts, [len(positions)]]).astype(np.int64)
