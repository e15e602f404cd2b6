"""How well connectivity is predicted: over all pairs, over groups of pairs, and as a whole matrix.

``mse``, ``mae``, ``pearson_r``, ``spearman_r`` and ``r2`` are those of scipy and scikit-learn. ``geodesic`` is the
affine-invariant distance of symmetric positive definite matrices (Venkatesh, Jaja & Pessoa 2020,
doi:10.1016/j.neuroimage.2019.116398): sqrt(sum(log(eig(A^-1/2 B A^-1/2))^2)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.stats import rankdata

from scmodelforge._errors import ConfigError
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import distances, hemisphere_sides

__all__ = ["connectivity_matrix", "connectivity_metrics", "geodesic_distance", "metrics_by_group", "pair_groups"]

_EIGENVALUE_FLOOR = 1e-3
_SELF = 1.0  # connectivity of a region with itself, where the diagonal is not given: that of a correlation matrix
_DISTANCE_THIRDS = ("short", "mid", "long")
_STRENGTH_THIRDS = ("weak", "middle", "strong")


def connectivity_metrics(targets: Any, predictions: Any) -> dict[str, float]:
    """Score predicted connectivity.

    Parameters
    ----------
    targets, predictions
        Connectivity of pairs, shape (n,), or whole matrices, shape (R, R).

    Returns
    -------
    ``mse``, ``mae``, ``pearson_r``, ``spearman_r`` and ``r2``; of matrices over all entries off the diagonal, and
    ``geodesic`` beside them, for which missing diagonals count as 1. A correlation is NaN where one side is constant
    or there are fewer than two pairs; so is ``r2`` where the targets are.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If the shapes differ or fit neither, there is no pair, or a value is missing.
    """
    true, found = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    is_matrix = true.ndim == 2 and true.shape[0] == true.shape[1]
    if true.shape != found.shape or not (true.ndim == 1 or is_matrix) or true.size == 0:
        msg = (
            f"targets have the shape {true.shape} and predictions {found.shape}; both need one value for each pair, "
            "(n,), or a whole matrix, (R, R)."
        )
        raise ConfigError(msg)
    if not is_matrix:
        return _scores(true, found)
    off_diagonal = ~np.eye(len(true), dtype=bool)
    scores = _scores(true[off_diagonal], found[off_diagonal])
    return {**scores, "geodesic": geodesic_distance(_with_diagonal(true), _with_diagonal(found))}


def geodesic_distance(first: np.ndarray, second: np.ndarray, *, floor: float = _EIGENVALUE_FLOOR) -> float:
    """Return the geodesic distance of two matrices, made symmetric, their eigenvalues lifted to ``floor`` at least.

    It is 0 for equal matrices, the same either way round, and does not change if both are multiplied by the same
    invertible matrix from the left and its transpose from the right (unless eigenvalues were lifted).

    Raises
    ------
    ConfigError
        If the matrices are not square, of one size and complete.
    """
    pair = [np.asarray(each, dtype=np.float64) for each in (first, second)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 2 or pair[0].shape[0] != pair[0].shape[1]:
        msg = f"matrices have the shapes {pair[0].shape} and {pair[1].shape}; two square ones of one size are needed."
        raise ConfigError(msg)
    if not all(np.isfinite(each).all() for each in pair):
        msg = "a matrix has NaN or infinite values; whole matrices are needed for a geodesic distance."
        raise ConfigError(msg)
    one, other = (_lifted((each + each.T) / 2, floor) for each in pair)
    return float(np.sqrt((np.log(eigh(other, one, eigvals_only=True)) ** 2).sum()))


def connectivity_matrix(data: RegionPairDataset, indices: Sequence[int] | np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values of some pairs as a matrix, shape (R, R); NaN on the diagonal and where there is no value."""
    matrix = np.full((data.num_regions, data.num_regions), np.nan)
    pairs = data.pairs(indices)
    matrix[pairs[:, 0], pairs[:, 1]] = values
    return matrix


def pair_groups(data: RegionPairDataset, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Return the group of each pair by what is known of the regions.

    ``distance``: thirds of the distances of all pairs of the data set (short, mid, long). ``strength``: thirds of the
    connectivity of all pairs (weak, middle, strong). ``hemispheres``: within or between. ``network``: the name for
    pairs inside a network, else between.
    """
    pairs = data.pairs(indices)
    first, second = pairs[:, 0], pairs[:, 1]
    groups = {"strength": _third(data.targets(indices), data.targets(), _STRENGTH_THIRDS)}
    if data.coords is not None:
        apart = distances(data.coords.numpy().astype(np.float64))
        everywhere = apart[np.triu_indices(len(apart), 1)]
        groups["distance"] = _third(apart[first, second], everywhere, _DISTANCE_THIRDS)
    sides = hemisphere_sides(data)
    if sides is not None:
        is_known = (sides[first] != 0) & (sides[second] != 0)
        relation = np.where(sides[first] == sides[second], "within", "between")
        groups["hemispheres"] = np.where(is_known, relation, "midline")
    if data.networks is not None:
        groups["network"] = np.where(
            data.networks[first] == data.networks[second], data.networks[first], "between networks"
        )
    return groups


def metrics_by_group(
    data: RegionPairDataset, indices: Sequence[int] | np.ndarray, predictions: np.ndarray
) -> list[dict[str, Any]]:
    """Score predictions over each group of pairs of :func:`pair_groups`.

    Within a third the targets vary less, so correlations are lower than over all pairs; compare them between models,
    not with the overall figure.

    Returns
    -------
    One record for each group that has pairs: ``by``, ``group``, ``num_pairs`` and the scores of
    :func:`connectivity_metrics`.
    """
    true = data.targets(indices)
    found = np.asarray(predictions, dtype=np.float64)
    records = []
    for by, labels in pair_groups(data, indices).items():
        for group in _in_order(by, labels):
            chosen = labels == group
            scores = connectivity_metrics(true[chosen], found[chosen])
            records.append({"by": by, "group": group, "num_pairs": int(chosen.sum()), **scores})
    return records


def _scores(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    if not (np.isfinite(true).all() and np.isfinite(found).all()):
        msg = "targets or predictions have NaN or infinite values; score the pairs that have both."
        raise ConfigError(msg)
    gap = found - true
    spread = ((true - true.mean()) ** 2).sum()
    return {
        "mse": float((gap**2).mean()),
        "mae": float(np.abs(gap).mean()),
        "pearson_r": _pearson(true, found),
        "spearman_r": _pearson(rankdata(true), rankdata(found)),
        "r2": float(1 - (gap**2).sum() / spread) if spread > 0 else float("nan"),
    }


def _pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation; NaN where one side is constant, up to rounding of its size."""
    one_gap, other_gap = one - one.mean(), other - other.mean()
    sizes = np.sqrt((one_gap**2).sum()), np.sqrt((other_gap**2).sum())
    least = [1e-12 * np.sqrt(len(side)) * max(np.abs(side).max(), 1e-300) for side in (one, other)]
    if sizes[0] <= least[0] or sizes[1] <= least[1]:
        return float("nan")
    return float(np.clip((one_gap / sizes[0]) @ (other_gap / sizes[1]), -1, 1))


def _with_diagonal(matrix: np.ndarray) -> np.ndarray:
    is_missing = np.eye(len(matrix), dtype=bool) & ~np.isfinite(matrix)
    return np.where(is_missing, _SELF, matrix)


def _lifted(matrix: np.ndarray, floor: float) -> np.ndarray:
    values, vectors = eigh(matrix)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _third(values: np.ndarray, everywhere: np.ndarray, names: tuple[str, str, str]) -> np.ndarray:
    edges = np.quantile(everywhere, (1 / 3, 2 / 3))
    return np.asarray(names)[np.searchsorted(edges, values, side="left")]


def _in_order(by: str, labels: np.ndarray) -> list[str]:
    found = sorted(set(labels.tolist()))
    order = {"distance": _DISTANCE_THIRDS, "strength": _STRENGTH_THIRDS}.get(by)
    return found if order is None else [name for name in order if name in found]
