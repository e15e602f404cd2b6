"""Silhouettes: of labels, and of batches within labels, with the variants in use.

With a the mean distance to the other cells of a cell's own group and b the distance to other groups, the silhouette is
(b - a) / max(a, b) (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7); 0 for a cell that is alone in its group.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

__all__ = ["BatchSilhouette", "Distance", "Others", "batch_silhouette", "silhouette_samples"]

Distance = Literal["euclidean", "cosine"]
Others = Literal["nearest", "mean_other", "furthest"]

_ROWS, _COLUMNS = 256, 2048  # of a block of distances: small enough for a processor's cache


def silhouette_samples(
    embeddings: np.ndarray, codes: np.ndarray, *, distance: Distance = "euclidean", others: Others = "nearest"
) -> np.ndarray:
    """Return the silhouette of each cell.

    Distances are computed in blocks of rows; there is never one for every pair of cells at a time.

    Parameters
    ----------
    embeddings
        Shape (n, H).
    codes
        Label of each cell, shape (n,), at least two of which occur.
    distance
        ``cosine`` is 1 minus the cosine of the angle.
    others
        What b is: the mean distance to the nearest other group, to all cells of other groups, or to the furthest group.

    Returns
    -------
    Shape (n,), float64, -1 to 1.
    """
    order = np.argsort(codes, kind="stable")  # cells of a label side by side, so that sums over labels are slices
    _, own, sizes = np.unique(codes[order], return_inverse=True, return_counts=True)
    points = _prepared(embeddings[order], distance)
    found = np.empty(len(points))
    for begin in range(0, len(points), _ROWS):
        rows = np.arange(begin, min(begin + _ROWS, len(points)))
        found[rows] = _silhouette(_sums(points, rows, sizes, distance), own[rows], sizes, others)
    result = np.empty_like(found)
    result[order] = found
    return result


class BatchSilhouette(NamedTuple):
    """1 - |silhouette of batches| within labels.

    Attributes
    ----------
    rows
        The cells that are scored, label after label.
    scores
        Theirs, 0 to 1.
    labels
        Code of the label of each.
    left_out
        Labels whose cells are all of one batch, or each of a batch of its own.
    """

    rows: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    left_out: list[int]


def batch_silhouette(
    embeddings: np.ndarray, labels: np.ndarray, batches: np.ndarray, *, distance: Distance, others: Others
) -> BatchSilhouette:
    """Return how little the batches within each label stand apart; its score is the mean over labels of their means.

    Parameters
    ----------
    embeddings
        Shape (n, H).
    labels, batches
        Codes, shape (n,).
    distance, others
        As in :func:`silhouette_samples`.
    """
    parts, scores, left_out = [], [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        num_batches = len(np.unique(batches[rows]))
        if not 1 < num_batches < len(rows):
            left_out.append(int(label))
            continue
        parts.append(rows)
        values = silhouette_samples(embeddings[rows], batches[rows], distance=distance, others=others)
        scores.append(1 - np.abs(values))
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    return BatchSilhouette(rows, np.concatenate([np.zeros(0), *scores]), labels[rows], left_out)


def _prepared(embeddings: np.ndarray, distance: Distance) -> np.ndarray:
    points = embeddings.astype(np.float64)
    if distance == "cosine":
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        return np.asarray(points / np.where(lengths > 0, lengths, 1))
    return np.asarray(points - points.mean(axis=0))  # small numbers lose least in differences of squares


def _sums(points: np.ndarray, rows: np.ndarray, sizes: np.ndarray, distance: Distance) -> np.ndarray:
    """Return the sum of distances from some cells to the cells of each group, which lie side by side; (rows, L)."""
    sums = np.zeros((len(rows), len(sizes)))
    ends = np.cumsum(sizes)
    own = points[rows]
    for group, end in enumerate(ends):
        for start in range(end - sizes[group], end, _COLUMNS):
            columns = np.arange(start, min(start + _COLUMNS, end))
            distances = _distances(own, points[columns], distance)
            same = np.flatnonzero((rows >= columns[0]) & (rows <= columns[-1]))
            distances[same, rows[same] - start] = 0
            sums[:, group] += distances.sum(axis=1)
    return sums


def _distances(own: np.ndarray, others: np.ndarray, distance: Distance) -> np.ndarray:
    if distance == "cosine":
        return np.clip(1 - own @ others.T, 0, 2)
    distances = (-2 * own) @ others.T
    distances += np.einsum("ij,ij->i", own, own)[:, None]
    distances += np.einsum("ij,ij->i", others, others)
    np.maximum(distances, 0, out=distances)
    return np.sqrt(distances, out=distances)


def _silhouette(sums: np.ndarray, own: np.ndarray, sizes: np.ndarray, others: Others) -> np.ndarray:
    rows = np.arange(len(sums))
    within = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    if others == "mean_other":
        beyond = (sums.sum(axis=1) - sums[rows, own]) / (sizes.sum() - sizes[own])
    else:
        means = sums / sizes
        means[rows, own] = np.inf if others == "nearest" else -np.inf
        beyond = means.min(axis=1) if others == "nearest" else means.max(axis=1)
    larger = np.maximum(beyond, within)
    scores = np.where(larger > 0, (beyond - within) / np.where(larger > 0, larger, 1), 0.0)
    return np.where(sizes[own] > 1, scores, 0.0)
