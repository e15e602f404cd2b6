"""How much of the variance lies between batches (principal component regression, Buettner et al. 2019).

The share of each component's variance that the batch explains, weighted by the components' variances, is the share of
the total variance that lies between the batches' means. Components need not be computed: turning the axes changes
neither (doi:10.1038/s41592-018-0254-1).
"""

from __future__ import annotations

import numpy as np

__all__ = ["batch_variance", "pcr_comparison"]


def batch_variance(embeddings: np.ndarray, batches: np.ndarray) -> float:
    """Return the share of variance between batches, 0 to 1; NaN if there is no variance.

    Parameters
    ----------
    embeddings
        Shape (n, H).
    batches
        Codes, shape (n,).
    """
    points = np.asarray(embeddings, dtype=np.float64)
    points = points - points.mean(axis=0)
    _, codes, sizes = np.unique(batches, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), points.shape[1]))
    np.add.at(sums, codes, points)
    total = float((points**2).sum())
    return float((sums**2 / sizes[:, None]).sum()) / total if total > 0 else float("nan")


def pcr_comparison(before: float, after: float) -> float:
    """Return the share of the batch's variance that is gone, 0 if there is more than before; NaN if there was none."""
    return max(0.0, (before - after) / before) if before > 0 else float("nan")
