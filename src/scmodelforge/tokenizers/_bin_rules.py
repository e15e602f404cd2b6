"""What compiled binning is told, and what it gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.tokenizers.gene_selection import Selection

__all__ = ["BinRules", "Binned"]


class Binned(NamedTuple):
    """Tokens of some cells.

    Attributes
    ----------
    offsets
        Start of each cell's tokens, shape (n + 1,), int64.
    ids, bins
        Shape (T,), int32.
    cut_offsets, cut_ids
        Tokens that had no room, likewise.
    """

    offsets: np.ndarray
    ids: np.ndarray
    bins: np.ndarray
    cut_offsets: np.ndarray
    cut_ids: np.ndarray


class BinRules(NamedTuple):
    """What decides tokens and bins.

    Attributes
    ----------
    tokens
        Token of each column, shape (G,), int32, -1 where it has none; no token twice.
    classes
        Class of each token, shape (V,), uint8: genes of a lower one are kept first.
    method, ties, selection
        As in the settings.
    levels
        What edges are made of, shape (K - 1,), float64: levels of quantiles, the edges themselves, or shares of the
        largest value.
    room
        Most genes of a cell.
    first
        Tokens before the genes, at most one.
    """

    tokens: np.ndarray
    classes: np.ndarray
    method: str
    ties: str
    selection: Selection
    levels: np.ndarray
    room: int
    first: list[int]
