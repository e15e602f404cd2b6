"""Dijkstra's search for the nearest cells of each cell along the edges of a graph, compiled."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled, inner

__all__ = ["walk_graph"]


def walk_graph(
    offsets: np.ndarray, columns: np.ndarray, lengths: np.ndarray, indices: np.ndarray, distances: np.ndarray
) -> None:
    """Write the cells nearest to each, and how long the paths to them are. Equally far ones go by their number.

    Parameters
    ----------
    offsets, columns, lengths
        The graph, CSR.
    indices, distances
        Where the results go, shape (n, k); places are left as they are where no more cells can be reached.

    Raises
    ------
    ImportError
        If numba is not installed.
    """
    walk = compiled(_walk)(1 << 62)
    if walk is None:
        msg = "Paths along a graph need the package 'numba'. Install it with: pip install numba"
        raise ImportError(msg)
    walk(offsets.astype(np.int64), columns.astype(np.int64), lengths.astype(np.float64), indices, distances)


@inner
def _push(keys, cells, size, key, cell):
    """Put a cell into a heap of so many cells, the nearest on top."""
    place = size
    while place > 0:
        parent = (place - 1) // 2
        if keys[parent] < key or (keys[parent] == key and cells[parent] <= cell):
            break
        keys[place], cells[place] = keys[parent], cells[parent]
        place = parent
    keys[place], cells[place] = key, cell


@inner
def _pop(keys, cells, size):
    """Take the top off a heap of so many cells; the last one is sifted down into the hole."""
    key, cell = keys[size - 1], cells[size - 1]
    place = 0
    while 2 * place + 1 < size - 1:
        child = 2 * place + 1
        if child + 1 < size - 1 and (
            keys[child + 1] < keys[child] or (keys[child + 1] == keys[child] and cells[child + 1] < cells[child])
        ):
            child += 1
        if keys[child] > key or (keys[child] == key and cells[child] >= cell):
            break
        keys[place], cells[place] = keys[child], cells[child]
        place = child
    keys[place], cells[place] = key, cell


def _walk(offsets, columns, lengths, indices, distances):
    num_cells, k = indices.shape
    best = np.full(num_cells, np.inf)
    is_done = np.zeros(num_cells, dtype=np.bool_)
    touched = np.empty(num_cells, dtype=np.int64)
    # Every edge puts at most one cell into the heap.
    keys, cells = np.empty(len(columns) + 1), np.empty(len(columns) + 1, dtype=np.int64)
    for start in range(num_cells):
        num_touched, size, found = 1, 1, 0
        touched[0], best[start] = start, 0.0
        keys[0], cells[0] = 0.0, start
        while size > 0 and found < k:
            key, cell = keys[0], cells[0]
            _pop(keys, cells, size)
            size -= 1
            if is_done[cell]:
                continue
            is_done[cell] = True
            if cell != start:
                indices[start, found], distances[start, found] = cell, key
                found += 1
            for edge in range(offsets[cell], offsets[cell + 1]):
                other, length = columns[edge], key + lengths[edge]
                if length >= best[other]:
                    continue
                if best[other] == np.inf:
                    touched[num_touched] = other
                    num_touched += 1
                best[other] = length
                _push(keys, cells, size, length, other)
                size += 1
        for slot in range(num_touched):
            best[touched[slot]] = np.inf
            is_done[touched[slot]] = False
