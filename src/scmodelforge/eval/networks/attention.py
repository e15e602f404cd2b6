"""Edges from attention: how much the token of a gene attends that of a factor, or is attended by it, over cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.insilico import GeneModel, gene_numbers
from scmodelforge.eval.networks.matching import Network
from scmodelforge.eval.networks.scores import rank_pairs

__all__ = ["DIRECTIONS", "AttentionScores", "attention_scores"]

#: The gene's token is the query and the factor's the key, or the other way round.
DIRECTIONS = ("gene_attends_tf", "tf_attends_gene")
_MOST_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class AttentionScores:
    """Ranks of attention, averaged over cells.

    Attributes
    ----------
    means
        Shape (layers, heads, 2, T, G), float32, the third axis being :data:`DIRECTIONS`; 0 where no cell has both.
    tfs
        Numbers of the factors, shape (T,).
    num_cells
        Cells that have both genes, shape (T, G).
    """

    means: np.ndarray
    tfs: np.ndarray
    num_cells: np.ndarray

    def average(self, direction: str = DIRECTIONS[0]) -> np.ndarray:
        """Return the mean over all layers and heads, shape (T, G)."""
        return np.asarray(self.means[:, :, DIRECTIONS.index(direction)].mean(axis=(0, 1)), dtype=np.float64)

    def chosen(self, layer: int, head: int, direction: str) -> np.ndarray:
        """Return the scores of one head, shape (T, G)."""
        return np.asarray(self.means[layer, head, DIRECTIONS.index(direction)], dtype=np.float64)

    def best_head(self, network: Network) -> tuple[int, int, str]:
        """Return layer, head and direction of the highest AUROC on a network, which may not be the one that is scored.

        Raises
        ------
        DataError
            If the network has no edge to choose by.
        """
        rows = [self.tfs.tolist().index(tf) for tf in network.tfs.tolist()]
        found: dict[tuple[int, int, str], float] = {}
        for layer in range(self.means.shape[0]):
            for head in range(self.means.shape[1]):
                for direction in DIRECTIONS:
                    pairs = rank_pairs(self.chosen(layer, head, direction)[rows], network)
                    found[layer, head, direction] = pairs.scores()["auroc"]
        if not np.isfinite(list(found.values())).all():
            msg = (
                f"the network '{network.name}' has no edges among the genes that the scored network does not have too, "
                "so no head can be chosen by it; set select_on to a network of other edges, or leave it out."
            )
            raise DataError(msg)
        return max(found, key=lambda each: found[each])


def attention_scores(model: GeneModel, tfs: np.ndarray) -> AttentionScores:
    """Average the attention between factors and genes over the model's cells.

    Special tokens are dropped. Within each cell and query the keys are replaced by their ranks among the genes, from 0
    to 1, ties by their mean: what is left says which genes a token attends most, not how many genes share it.

    Parameters
    ----------
    model
        The model with its cells.
    tfs
        Numbers of the factors among the model's genes, shape (T,).

    Raises
    ------
    DataError
        If the model gives no attention, or there are too many heads, factors and genes to hold.
    """
    number_of, num_genes = gene_numbers(model), len(model.genes)
    sums: np.ndarray | None = None
    together = np.zeros((len(tfs), num_genes), dtype=np.int64)
    for block in model.cells():
        maps = model.attention(block)
        if sums is None:
            sums = _empty(maps, len(tfs), num_genes)
        for row in range(len(block)):
            numbers = number_of[block.ids[block.offsets[row] : block.offsets[row + 1]]]
            places = np.flatnonzero(numbers >= 0)
            genes = numbers[places]
            is_tf = np.isin(tfs, genes)
            where = np.flatnonzero(is_tf)
            place_of = {int(gene): place for place, gene in enumerate(genes)}
            own = np.array([place_of[int(tf)] for tf in tfs[where]], dtype=np.int64)
            together[np.ix_(where, genes)] += 1
            for layer, layer_maps in enumerate(maps):
                for head, attention in enumerate(layer_maps[row]):
                    ranks = _ranks(attention[np.ix_(places, places)])
                    sums[layer, head, 0][np.ix_(where, genes)] += ranks[:, own].T
                    sums[layer, head, 1][np.ix_(where, genes)] += ranks[own]
    if sums is None:
        msg = "there are no cells to look at attention in; raise num_cells."
        raise DataError(msg)
    return AttentionScores(sums / np.maximum(together, 1).astype(np.float32), tfs, together)


def _empty(maps: object, num_tfs: int, num_genes: int) -> np.ndarray:
    layers = list(maps) if isinstance(maps, (list, tuple)) else []
    if not layers:
        msg = "the model gives no attention; choose another score, or a model with attention."
        raise DataError(msg)
    shape = (len(layers), layers[0].shape[1], 2, num_tfs, num_genes)
    if 4 * int(np.prod(shape, dtype=np.int64)) > _MOST_BYTES:
        msg = (
            f"attention of {shape[0]} layers with {shape[1]} heads between {num_tfs:,} factors and {num_genes:,} genes "
            f"needs more than {_MOST_BYTES // 2**30} GiB; name networks of fewer factors."
        )
        raise DataError(msg)
    return np.zeros(shape, dtype=np.float32)


def _ranks(attention: np.ndarray) -> np.ndarray:
    """Return the rank of each entry in its row, from 0 to 1, ties by their mean."""
    from scipy.stats import rankdata

    if attention.shape[1] < 2:
        return np.zeros(attention.shape)
    return np.asarray((rankdata(attention, axis=1) - 1) / (attention.shape[1] - 1))
