"""How well scores of pairs find the known edges, over all factors and for each by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import generator
from scmodelforge.eval.metrics import RESAMPLES
from scmodelforge.eval.networks.matching import Network
from scmodelforge.eval.ranking import RANKING_METRICS, Ranking

__all__ = ["RankedPairs", "per_tf_scores", "permuted_network", "rank_pairs"]


@dataclass(frozen=True, slots=True)
class RankedPairs:
    """Candidate pairs of a network, ranked by their scores.

    Attributes
    ----------
    network
        The known edges.
    ranking
        Of the candidates in the order of ``rows`` and ``columns``.
    rows, columns
        Factor (row of the network) and gene of each candidate, shape (P,).
    """

    network: Network
    ranking: Ranking
    rows: np.ndarray
    columns: np.ndarray

    def scores(self, truth: np.ndarray | None = None) -> dict[str, float]:
        """Return :meth:`Ranking.scores`, by the known edges or by another truth, shape (T, G)."""
        truth = self.network.truth if truth is None else truth
        return self.ranking.scores(truth[self.rows, self.columns])

    def bootstrap(self, *, seed: int, purpose: str, resamples: int = RESAMPLES) -> dict[str, np.ndarray]:
        """Return the scores of factors drawn with replacement, each shape (resamples,); NaN where not defined."""
        random, size = generator(seed, "bootstrap", purpose), len(self.network.tfs)
        counted = self.ranking.counted(self.network.truth[self.rows, self.columns], self.rows)
        draws = [
            counted.scores(np.bincount(random.integers(size, size=size), minlength=size)) for _ in range(resamples)
        ]
        return {name: np.array([draw[name] for draw in draws]) for name in RANKING_METRICS}


def rank_pairs(scores: np.ndarray, network: Network) -> RankedPairs:
    """Rank the candidates of a network.

    Parameters
    ----------
    scores
        Shape (T, G), a row for each factor of the network; higher is more likely an edge.
    network
        The known edges.

    Raises
    ------
    DataError
        If a score is not finite, or the shape is another one.
    """
    if scores.shape != network.truth.shape:
        msg = f"scores of shape {scores.shape} for the network '{network.name}' of shape {network.truth.shape}."
        raise DataError(msg)
    is_candidate = network.is_candidate
    found = scores[is_candidate]
    if not np.isfinite(found).all():
        count = int((~np.isfinite(found)).sum())
        msg = f"{count:,} of {len(found):,} scores of pairs are NaN or infinite; give each candidate a number."
        raise DataError(msg)
    rows, columns = (each.astype(np.int32) for each in np.nonzero(is_candidate))
    return RankedPairs(network, Ranking.of(found), rows, columns)


def per_tf_scores(scores: np.ndarray, network: Network, *, min_targets: int) -> dict[str, list[Any]]:
    """Score each factor by itself, among all genes but itself.

    Parameters
    ----------
    scores, network
        As of :func:`rank_pairs`.
    min_targets
        Fewest known targets; factors with fewer are left out.

    Returns
    -------
    Columns of a table: ``tf``, ``num_targets`` and the scores; a score that is not defined is ``None``.
    """
    table: dict[str, list[Any]] = {name: [] for name in ("tf", "num_targets", *RANKING_METRICS)}
    candidates = network.is_candidate
    for row, name in enumerate(network.tf_names):
        truth = network.truth[row, candidates[row]]
        if truth.sum() < min_targets:
            continue
        values = Ranking.of(scores[row, candidates[row]]).scores(truth)
        table["tf"].append(name)
        table["num_targets"].append(int(truth.sum()))
        for metric in RANKING_METRICS:
            table[metric].append(None if np.isnan(values[metric]) else values[metric])
    return table


def permuted_network(network: Network, *, seed: int) -> np.ndarray:
    """Return the truth with the genes that are targeted exchanged for others, shape (T, G), bool.

    Factors have as many targets and genes are as popular as before, but they are other genes. A target that becomes
    the factor itself is no candidate.
    """
    by_name = np.argsort(np.array(network.genes), kind="stable")
    order = np.empty_like(by_name)
    order[by_name] = by_name[generator(seed, "permuted network", network.name).permutation(len(by_name))]
    return network.truth[:, order]
