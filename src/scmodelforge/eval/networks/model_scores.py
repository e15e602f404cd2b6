"""Scores that a model gives to pairs of a factor and a gene: by its vectors, its attention, or its predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.genes.vectors import GeneVectors
from scmodelforge.eval.insilico import GeneModel, Perturbation, perturb
from scmodelforge.eval.networks.attention import DIRECTIONS, AttentionScores, attention_scores
from scmodelforge.eval.networks.matching import Network
from scmodelforge.eval.networks.score_matrices import cosine_scores

__all__ = ["PairScores", "by_attention", "by_cosine", "by_perturbation"]

#: Scores of a network, shape (T, G), and what is to be known of them.
PairScores = Callable[[Network], tuple[np.ndarray, dict[str, Any]]]


def by_cosine(vectors: GeneVectors) -> PairScores:
    """Return cosines of the genes' vectors."""

    def scores(network: Network) -> tuple[np.ndarray, dict[str, Any]]:
        return cosine_scores(vectors.vectors, network.tfs), {"distance": "cosine", "tells_direction": False}

    return scores


def by_attention(
    model: GeneModel, names: Sequence[str], networks: Sequence[Network], *, select_on: Network | None
) -> PairScores:
    """Return mean ranks of attention: of all heads, or of the one that is best on another network.

    Parameters
    ----------
    model
        The model with its cells.
    names
        The genes of the networks.
    networks
        Those that will be scored.
    select_on
        The network that a head is chosen by. Edges that the scored network has too are left out of it.
    """
    tfs = _all_tfs([*networks, *([] if select_on is None else [select_on])])
    columns = _numbers(model, names)
    found = attention_scores(model, columns[tfs])
    found = AttentionScores(found.means[..., columns], tfs, found.num_cells[:, columns])

    def scores(network: Network) -> tuple[np.ndarray, dict[str, Any]]:
        rows = np.searchsorted(tfs, network.tfs)
        facts: dict[str, Any] = {
            "tells_direction": True,
            "num_cells": model.num_cells,
            "keys": "ranked among genes within each query and cell",
            "pairs_in_no_cell": int((found.num_cells[rows] == 0).sum()),
        }
        if select_on is None:
            return found.average()[rows], facts | {"heads": "mean", "direction": DIRECTIONS[0]}
        layer, head, direction = found.best_head(select_on.without(network))
        facts |= {"layer": layer, "head": head, "direction": direction, "selected_on": select_on.name}
        return found.chosen(layer, head, direction)[rows], facts

    return scores


def by_perturbation(
    model: GeneModel, names: Sequence[str], networks: Sequence[Network], *, kind: Literal["delete", "overexpress"]
) -> PairScores:
    """Return how far the hidden state of a gene moves when the factor is deleted or overexpressed.

    A gene that no cell has together with the factor gets 0.
    """
    tfs, columns = _all_tfs(networks), _numbers(model, names)
    effects = perturb(model, [Perturbation(kind, (int(columns[tf]),)) for tf in tfs])
    shifts = np.stack([effect.gene_shift[columns] for effect in effects]) if effects else np.zeros((0, len(names)))
    having = np.array([effect.num_cells for effect in effects], dtype=np.int64)

    def scores(network: Network) -> tuple[np.ndarray, dict[str, Any]]:
        rows = np.searchsorted(tfs, network.tfs)
        facts = {
            "tells_direction": True,
            "num_cells": model.num_cells,
            "perturbation": kind,
            "pairs_in_no_cell": int(np.isnan(shifts[rows]).sum()),
            "tfs_in_no_cell": int((having[rows] == 0).sum()),
        }
        return np.nan_to_num(shifts[rows], nan=0.0), facts

    return scores


def _all_tfs(networks: Sequence[Network]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(each.tfs for each in networks)]))


def _numbers(model: GeneModel, names: Sequence[str]) -> np.ndarray:
    """Return the model's number of each gene."""
    number_of = {name: number for number, name in enumerate(model.genes)}
    missing = [name for name in names if name not in number_of]
    if missing:
        msg = f"{len(missing):,} genes with vectors are none of the model's (the first: {missing[0]})."
        raise DataError(msg)
    return np.array([number_of[name] for name in names], dtype=np.int64)
