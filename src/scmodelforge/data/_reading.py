"""What the threads of a loader do: read the cells of windows, and make tokens of cells."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import numpy as np

from scmodelforge.data._window import WindowBuffer, WindowCells, pieces
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.gather import read_rows, row_lengths
from scmodelforge.data.protocols import BlockEncoder, BoundEncoder, CellSource
from scmodelforge.data.sampling import GlobalOrder, Window
from scmodelforge.data.types import CellBlock, Panel, TokenBlock

__all__ = ["Reading", "WindowPlan", "plans_by_need"]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """A window of a pass."""

    data_pass: int
    window: Window

    def __len__(self) -> int:
        return len(self.window)


def plans_by_need(
    order: GlobalOrder, streams: Sequence[int], *, data_pass: int, start: int, endless: bool
) -> tuple[Iterator[tuple[int, WindowPlan]], dict[int, int]]:
    """Return the windows of some streams with their stream, in the order they are needed, from a position on.

    Parameters
    ----------
    order
        The global order.
    streams
        The streams.
    data_pass, start
        The pass, and the position in it.
    endless
        Whether other passes follow.

    Returns
    -------
    The windows, and of each stream's first one the cells before ``start``.
    """
    passes, skips = [], {}
    for stream in streams:
        index, skips[stream] = order.locate(stream, order.first_element(stream, start))
        passes.append(_windows(order, stream, data_pass, index, endless=endless))
    by_need = heapq.merge(*passes, key=lambda found: found[:2])
    plans = ((stream, WindowPlan(at, order.window(at, stream, index))) for at, _, stream, index in by_need)
    return plans, skips


def _windows(
    order: GlobalOrder, stream: int, data_pass: int, index: int, *, endless: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Yield pass, first element, stream and number of each window of a stream, beginning with a given one."""
    count = order.num_windows(stream)
    for number in itertools.count(data_pass) if endless and count else [data_pass]:
        for window in range(index, count):
            yield number, order.window_start(stream, window), stream, window
        index = 0


class Reading:
    """Reads and encodes cells, in any number of threads.

    Parameters
    ----------
    source, encoder, preprocess, order, seed
        As of :class:`~scmodelforge.data.loader.CellLoader`.

    Attributes
    ----------
    num_panels
        How many panels the files have that differ in their genes.
    """

    def __init__(
        self,
        source: CellSource,
        encoder: BlockEncoder,
        preprocess: Callable[[CellBlock], CellBlock],
        order: GlobalOrder,
        *,
        seed: int,
    ) -> None:
        self._source, self._encoder, self._preprocess = source, encoder, preprocess
        self._order, self._seed = order, seed
        self._panel_numbers = _numbers_of(source.panels)
        self.num_panels = len(set(self._panel_numbers))
        self._bound: dict[int, BoundEncoder] = {}
        self._one_binds = threading.Lock()
        self._buffers: list[WindowBuffer] = []
        self._values_fit = True  # in 16 bits, as far as was seen: other windows need not find out again
        self._nothing: TokenBlock | None = None

    def load(self, plan: WindowPlan, stopped: threading.Event) -> WindowCells:
        """Read the cells of a window; once ``stopped`` is set, give up."""
        window = plan.window
        if self._order.shuffle:
            keys = cell_keys(self._seed, window.global_positions, data_pass=plan.data_pass)
        else:
            keys = cell_keys(self._seed, window.positions)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = WindowBuffer(values_fit=self._values_fit)
        buffer.begin(len(window))
        for part in window.parts:
            ascending, number = np.argsort(part.rows), self._panel_numbers[part.file]
            # what is read into place needs no memory in between
            is_direct = row_lengths(self._source, part.file, part.rows[:0]) is not None
            for piece in [slice(None)] if is_direct else pieces(part.rows[ascending]):
                if stopped.is_set():
                    raise CancelledError
                chosen = ascending[piece]
                buffer.read(self._source, part.file, part.rows[chosen], part.slots[chosen], number)
        self._values_fit &= buffer.values_fit
        return buffer.finish(window.positions, keys, lambda: self._buffers.append(buffer))

    def encode(self, panel_number: int, cells: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the tokens of raw cells of a panel, given the base of each one's draws."""
        cells = self._preprocess(cells)
        with self._one_binds:
            if panel_number not in self._bound:
                self._bound[panel_number] = self._encoder.bind(cells.panel)
        return self._bound[panel_number].encode(cells, keys)

    def no_tokens(self) -> TokenBlock:
        """Return a block of no cells in the encoder's form: one cell is encoded, once, and not kept."""
        if self._nothing is None:
            stream = next(s for s in range(self._order.num_streams) if self._order.stream_size(s))
            part = self._order.window(0, stream, 0).parts[0]
            cells = read_rows(self._source, part.file, part.rows[:1])
            tokens = self.encode(self._panel_numbers[part.file], cells, np.zeros(1, dtype=np.uint64))
            self._nothing = tokens.select(np.zeros(0, dtype=np.int64))
        return self._nothing


def _numbers_of(panels: Sequence[Panel]) -> list[int]:
    """Return a number for each panel; those with the same genes in the same order have the same one."""
    numbers: list[int] = []
    alike: dict[tuple[int, str], list[int]] = {}
    for at, panel in enumerate(panels):
        genes = panel.gene_ids
        known = alike.setdefault((len(genes), str(genes[0]) if len(genes) else ""), [])
        number = next((i for i in known if np.array_equal(panels[i].gene_ids, genes)), at)
        if number == at:
            known.append(at)
        numbers.append(number)
    return numbers
