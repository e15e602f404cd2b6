"""One sketch of the cells of two sets."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.cell_sketch import SKETCH_SIZE, CellSketch

__all__ = ["joined"]


def joined(first: CellSketch, second: CellSketch, *, size: int = SKETCH_SIZE) -> CellSketch:
    """Return the sketch of the cells of two sets together.

    It is what a sketch of all these cells would have been: of identities up to the largest that both sketches know of,
    those of either set are known.

    Parameters
    ----------
    first, second
        Sketches of identities that are made of the same genes; others cannot be compared.
    size
        Identities that are kept.

    Raises
    ------
    ValueError
        If they are made of different genes.
    """
    if not np.array_equal(first.genes, second.genes):
        msg = "identities are made of different genes, and those of one cell differ; make one sketch of the other's."
        raise ValueError(msg)
    known = np.union1d(first.identities, second.identities)
    limits = [each.identities[-1] for each in (first, second) if not each.is_whole]
    if limits:
        known = known[known <= min(limits)]
    return CellSketch(
        known[:size].copy(),
        first.is_whole and second.is_whole and len(known) <= size,
        first.genes,
        first.is_complete and second.is_complete,
    )
