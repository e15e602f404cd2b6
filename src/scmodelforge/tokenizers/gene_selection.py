"""Which genes of a cell become tokens when it expresses more than there is room for.

Every gene has a class and a score that depend on nothing but the cell's key, the gene and its expression; the lowest
are kept. So neither the order of genes in a file nor batching changes what is kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.tokenizers.entries import Entries

__all__ = ["LOG_2", "SERIES", "Selection", "is_kept"]

Selection = Literal["random", "weighted", "top", "hvg_first"]

LOG_2 = float(np.log(2.0))
#: Coefficients of the series of the inverse hyperbolic tangent, the last first.
SERIES = tuple(1.0 / (2 * power + 1) for power in range(12, -1, -1))

_LARGEST = np.uint64((1 << 62) - 1)


def is_kept(
    entries: Entries, keys: np.ndarray, *, room: int, selection: Selection, classes: np.ndarray | None
) -> np.ndarray:
    """Return which expressed genes have room, shape (E,), bool.

    Parameters
    ----------
    entries
        The expressed genes.
    keys
        Base of each cell's random draws, shape (n,), uint64.
    room
        Most genes of a cell.
    selection
        ``random`` and ``hvg_first`` keep a random part; ``weighted`` draws one after another without replacement, with
        probabilities proportional to expression; ``top`` keeps the highest expression, of equal ones the lowest token.
    classes
        Class of each token, shape (V,), 0 to 2; genes of a lower one are kept first. ``None`` has all in one.
    """
    numbers = np.bincount(entries.cells, minlength=len(keys))
    kept = np.ones(len(entries.cells), dtype=bool)
    crowded = np.flatnonzero((numbers > room)[entries.cells])
    if len(crowded):
        cells, tokens, values = (array[crowded] for array in entries)
        scores = _scores(keys[cells], tokens, values, selection)
        if classes is not None:
            scores |= classes[tokens].astype(np.uint64) << np.uint64(62)
        order = np.lexsort((tokens, scores, cells))
        ranks = np.arange(len(cells)) - np.searchsorted(cells, cells, side="left")
        kept[crowded[order]] = ranks < room
    return kept


def _scores(keys: np.ndarray, tokens: np.ndarray, values: np.ndarray, selection: Selection) -> np.ndarray:
    """Return a number below 2^62 for each gene, uint64; the bits of floats above 0 rise with them."""
    if selection == "top":
        return _LARGEST - (values.view(np.uint64) >> np.uint64(1))
    draws = mix("gene sample", keys, tokens)
    if selection == "weighted":
        # An exponential time for each gene, at the rate of its expression: the first to come are such a sample.
        with np.errstate(divide="ignore"):  # genes without expression come last
            return (_exponentials(draws) / values).view(np.uint64) >> np.uint64(1)
    return draws >> np.uint64(2)


def _exponentials(draws: np.ndarray) -> np.ndarray:
    """Return draws from the exponential distribution, float64, of hashes.

    The logarithm is written out, good to 12 digits: that of a library may differ in its last bit between machines.
    """
    mantissa, exponent = np.frexp(((draws >> np.uint64(11)) + np.uint64(1)).astype(np.float64))
    ratio = (mantissa - 1.0) / (mantissa + 1.0)  # log(mantissa) = 2 artanh(ratio)
    square = ratio * ratio
    series = np.zeros_like(ratio)
    for factor in SERIES:
        series = series * square + factor
    return np.maximum((53 - exponent) * LOG_2 - 2.0 * ratio * series, 2.0**-53)
