"""Which genes are near each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.genes.vectors import GeneVectors
from scmodelforge.eval.networks.score_matrices import cosine_scores

__all__ = ["nearest_genes"]

_BLOCK = 256  # genes whose neighbours are looked for at a time


def nearest_genes(vectors: GeneVectors, genes: Sequence[str], k: int = 10) -> dict[str, list[Any]]:
    """Return the genes with the nearest vectors, by cosine.

    Parameters
    ----------
    vectors
        The genes that may be near.
    genes
        Whose neighbours are looked for: Ensembl ids, symbols or aliases. Those without a vector are left out.
    k
        Neighbours of each; fewer where there are fewer genes.

    Returns
    -------
    Columns of a table with one row for each pair: ``gene``, ``rank`` from 1, ``neighbour`` and ``cosine``. Equally
    near ones are sorted by name.

    Raises
    ------
    DataError
        If none of the genes has a vector.
    """
    numbers = vectors.find(list(genes))
    numbers = numbers[numbers >= 0]
    if len(numbers) == 0:
        msg = f"none of the {len(genes):,} genes ({', '.join(list(genes)[:3])}) has a vector; name genes of the model."
        raise DataError(msg)
    labels, by_name = vectors.labels, np.argsort(np.array(vectors.names), kind="stable")
    table: dict[str, list[Any]] = {"gene": [], "rank": [], "neighbour": [], "cosine": []}
    for begin in range(0, len(numbers), _BLOCK):
        block = numbers[begin : begin + _BLOCK]
        cosines = cosine_scores(vectors.vectors, block)
        for own, row in zip(block, cosines, strict=True):
            order = by_name[np.argsort(-row[by_name], kind="stable")]
            for rank, other in enumerate(order[order != own][:k], start=1):
                table["gene"].append(labels[own])
                table["rank"].append(rank)
                table["neighbour"].append(labels[other])
                table["cosine"].append(float(row[other]))
    return table
