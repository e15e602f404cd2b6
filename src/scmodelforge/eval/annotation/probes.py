"""Probes: small classifiers of embeddings. What they are fitted on are the cells they are given, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.annotation.softmax import Softmax, fit_softmax
from scmodelforge.eval.neighbors import nearest_neighbors

__all__ = ["LinearProbe", "NeighborProbe", "ProbeConfig", "ProbeName", "fit_probe", "variant_of", "why_not"]

ProbeName = Literal["linear_probe", "knn", "knn_cosine"]


class ProbeConfig(BenchmarkConfig):
    """Settings of probes."""

    min_class_size: int = Field(10, gt=0)
    """Labels with fewer cells are left out and counted. All training and held-out cells of the data count, also those
    that ``eval.max_cells`` leaves out."""
    probes: list[ProbeName] = Field(["linear_probe", "knn", "knn_cosine"], min_length=1)
    """``linear_probe`` is logistic regression on standardised columns, ``knn`` votes of Euclidean neighbours (usual for
    PCA), ``knn_cosine`` of neighbours by angle (usual for transformers). All embeddings get all of them."""
    num_neighbors: int = Field(15, gt=0)
    """Neighbours that vote."""
    max_iter: int = Field(2000, gt=0)
    """Most iterations of the logistic regression; ``params.converged`` says whether they were enough."""


def variant_of(probe: ProbeName, config: ProbeConfig) -> str:
    """Return the name of a probe as it stands in metrics: ``linear_probe``, ``knn15``, ``knn15_cosine``."""
    k = config.num_neighbors
    return {"linear_probe": "linear_probe", "knn": f"knn{k}", "knn_cosine": f"knn{k}_cosine"}[probe]


def why_not(probe: ProbeName, config: ProbeConfig, points: np.ndarray, labels: np.ndarray) -> str | None:
    """Return why a probe cannot be fitted on some cells, or ``None``."""
    found = np.unique(labels)
    if len(found) < 2:
        what = f"only the label '{found[0]}'" if len(found) else "no label with enough cells"
        return f"the training cells have {what}; two labels are needed"
    if (points == points[0]).all():
        return "all training cells have the same embedding"
    if probe != "linear_probe" and len(points) < config.num_neighbors:
        return f"{len(points):,} training cells are fewer than the {config.num_neighbors} neighbours asked for"
    return None


def fit_probe(
    probe: ProbeName, config: ProbeConfig, points: np.ndarray, labels: np.ndarray
) -> LinearProbe | NeighborProbe:
    """Fit a probe.

    Parameters
    ----------
    probe, config
        Which one, and its settings.
    points
        Embeddings of the training cells, shape (n, H); at least two of them differ.
    labels
        Their labels, shape (n,), str, at least two.
    """
    names, codes = np.unique(labels, return_inverse=True)
    if probe == "linear_probe":
        return _linear(points, names, codes, max_iter=config.max_iter)
    distance = "cosine" if probe == "knn_cosine" else "euclidean"
    return NeighborProbe(names, _placed(points, distance), codes, config.num_neighbors, distance)


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on columns standardised by the training cells.

    Attributes
    ----------
    names
        The labels of the cells it was fitted on, sorted, shape (K,), str; it can give no others.
    settings
        What there is to say of it in a record.
    centre, spread
        Mean and standard deviation of the training cells' columns, shape (H,).
    model
        The regression.
    """

    names: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    model: Softmax
    settings: dict[str, Any]

    def probabilities(self, points: np.ndarray) -> np.ndarray:
        """Return the probability of each label, shape (n, K), float64."""
        return self.model.probabilities((points - self.centre) / self.spread)


@dataclass(frozen=True)
class NeighborProbe:
    """Votes of the nearest training cells, each counted the same.

    Attributes
    ----------
    names, settings
        As of :class:`LinearProbe`.
    points, codes
        The training cells, shape (n, H), and their labels, shape (n,).
    k, distance
        Number of neighbours, ``euclidean`` or ``cosine``.
    """

    names: np.ndarray
    points: np.ndarray
    codes: np.ndarray
    k: int
    distance: str
    settings: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        about = {"k": self.k, "distance": self.distance, "weights": "uniform", "scaler": None}
        object.__setattr__(self, "settings", about)

    def probabilities(self, points: np.ndarray) -> np.ndarray:
        """Return the share of votes of each label, shape (n, K), float64."""
        found = self.codes[nearest_neighbors(self.points, self.k, queries=_placed(points, self.distance)).indices]
        cells = np.repeat(np.arange(len(points)), self.k) * len(self.names) + found.ravel()
        votes = np.bincount(cells, minlength=len(points) * len(self.names))
        return np.asarray(votes.reshape(len(points), -1) / self.k)


def _linear(points: np.ndarray, names: np.ndarray, codes: np.ndarray, *, max_iter: int) -> LinearProbe:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(points.astype(np.float64))
    model = fit_softmax((points - scaler.mean_) / scaler.scale_, codes, max_iter=max_iter)
    settings = {"scaler": "standard", "C": 1.0, "max_iter": max_iter, "converged": model.has_converged}
    return LinearProbe(names, scaler.mean_, scaler.scale_, model, settings)


def _placed(points: np.ndarray, distance: str) -> np.ndarray:
    """Return points between which Euclidean neighbours are those wanted; by angle, vectors of length 1."""
    if distance == "euclidean":
        return points
    lengths = np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 0, lengths, 1))
