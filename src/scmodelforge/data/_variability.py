"""How variable genes are, given mean and variance of each, and how the choices of several batches are combined.

==============  ===================================================================================================
``seurat``      Satija et al. 2015, doi:10.1038/nbt.3192: dispersion (variance over mean) of counts per 10,000,
                its logarithm standardised among genes of similar mean
``cell_ranger`` Zheng et al. 2017, doi:10.1038/ncomms14049: dispersion of log(1 + counts per 10,000), its distance from
                the median over the median absolute deviation, among genes of similar mean
``seurat_v3``   Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031: variance of counts divided by the variance expected
                at their mean, values far above clipped
==============  ===================================================================================================

Each as scanpy's ``highly_variable_genes`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scmodelforge.data._loess import loess
from scmodelforge.data._value_counts import ValueCounts

__all__ = [
    "best_by_dispersion",
    "best_by_rank",
    "normalised_variance",
    "scaled_dispersion",
    "standardised_dispersion",
]

_NUM_BINS = 20
_TINY_MEAN = 1e-12
#: Median absolute deviation of a normal distribution of standard deviation 1.
_NORMAL_MAD = 0.6744897501960817


def standardised_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return each gene's log dispersion as a z-score among genes of similar mean, shape (G,).

    Genes fall into 20 bins of equal width in log(1 + mean). A gene alone in its bin gets 1; one that does not vary,
    or whose bin does not, gets NaN.

    Parameters
    ----------
    mean, variance
        Of normalised counts, shape (G,).
    """
    import pandas as pd

    mean = np.where(mean == 0, _TINY_MEAN, mean)
    dispersion = variance / mean
    table = pd.DataFrame({"dispersion": np.log(np.where(dispersion == 0, np.nan, dispersion))})
    groups = table["dispersion"].groupby(pd.cut(np.log1p(mean), bins=_NUM_BINS), observed=True)
    average, spread = groups.transform("mean"), groups.transform("std")
    is_alone = (groups.transform("count") == 1) & table["dispersion"].notna()
    score = ((table["dispersion"] - average) / spread).mask(is_alone, 1.0)
    return np.asarray(score, dtype=np.float64)


def scaled_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return each gene's dispersion less the median of its bin over the bin's absolute deviation, shape (G,).

    Bins are divided by the 10th, 15th, ..., 100th percentile of the mean; equal percentiles count once. In a bin more
    than half of whose genes have the same dispersion the others are infinitely far from it, and these get NaN.

    Parameters
    ----------
    mean, variance
        Of logarithms of normalised counts, shape (G,).
    """
    import pandas as pd

    mean = np.where(mean == 0, _TINY_MEAN, mean)
    dispersion = pd.Series(variance / mean)
    edges = np.unique(np.percentile(mean, np.arange(10, 105, 5)))
    bins = np.searchsorted(edges, mean, side="left")
    distance = dispersion - dispersion.groupby(bins).transform("median")
    spread = distance.abs().groupby(bins).transform("median") / _NORMAL_MAD
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(distance / spread, dtype=np.float64)


def normalised_variance(
    cells: np.ndarray, mean: np.ndarray, variance: np.ndarray, genes: np.ndarray, counts: ValueCounts
) -> np.ndarray:
    """Return each gene's variance over the one expected at its mean, shape (G,); 0 for genes that do not vary.

    What is expected is a local regression of log variance on log mean. Counts further than the square root of the
    number of cells from the mean, in expected standard deviations, count as being that far.

    Parameters
    ----------
    cells, mean, variance
        Of counts, shape (G,).
    genes
        Number of each of these genes in ``counts``, shape (G,).
    counts
        Exact counts of all values.

    Raises
    ------
    DataError
        If too few genes vary.
    """
    varies = variance > 0
    expected = np.zeros(len(mean))
    expected[varies] = loess(np.log10(mean[varies]), np.log10(variance[varies]))
    spread = np.sqrt(10**expected)
    highest = np.full(counts.num_genes, np.inf)
    highest[genes] = spread * np.sqrt(cells) + mean
    sums, squares = (part[genes] for part in counts.clipped_sums(highest))
    deviation = cells * mean**2 + squares - 2 * sums * mean
    return np.asarray(deviation / ((cells - 1) * spread**2))


def best_by_dispersion(scores: Sequence[np.ndarray], is_silent: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return the genes chosen over one or several batches, ascending.

    In one batch these are the n highest and all that tie with the last. Of several batches the genes chosen in most
    come first, then those with the highest mean score.

    Parameters
    ----------
    scores
        Of each batch, shape (V,): NaN for genes without a score.
    is_silent
        Which genes each batch measures and does not express, shape (V,), bool: they count as 0 in the mean.
    n
        How many.
    """
    chosen = np.stack([_among_highest(score, n) for score in scores])
    if len(scores) == 1:
        return np.flatnonzero(chosen[0])
    stacked = np.where(np.stack(is_silent), 0.0, np.stack(scores))
    number = np.count_nonzero(~np.isnan(stacked), axis=0)
    with np.errstate(invalid="ignore"):
        average = np.where(number > 0, np.nansum(stacked, axis=0) / np.maximum(number, 1), np.nan)
    order = np.lexsort((-np.nan_to_num(average, nan=-np.inf), -chosen.sum(axis=0)))
    return np.sort(order[:n])


def best_by_rank(scores: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return the n genes of the lowest median rank over the batches that rank them among their n, ascending.

    Of equal ones those come first that more batches rank there.

    Parameters
    ----------
    scores
        Of each batch, shape (V,): NaN for genes without a score.
    n
        How many.
    """
    ranks = np.stack([np.argsort(np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")) for score in scores])
    is_among = (ranks < n) & ~np.isnan(np.stack(scores))
    number = is_among.sum(axis=0)
    median = np.ma.median(np.ma.array(ranks, mask=~is_among), axis=0).filled(np.inf)
    order = np.lexsort((-number, median))
    return np.sort(order[:n])


def _among_highest(score: np.ndarray, n: int) -> np.ndarray:
    """Return which genes have one of the n highest scores, ties with the last included, shape (V,), bool."""
    known = np.sort(score[~np.isnan(score)])
    if not len(known):
        return np.zeros(len(score), dtype=bool)
    return np.asarray(np.nan_to_num(score, nan=-np.inf) >= known[-min(n, len(known))])
