"""Two-step kernel ridge regression of pairs: a kernel of regions on either side of the connectivity matrix.

With K the kernel of the training regions and Y their connectivity, the prediction for regions i and j is
``k_i (K + lambda)^-1 Y (K + lambda)^-1 k_j`` (Stock, Pahikkala, Airola, De Baets & Waegeman 2018,
doi:10.1162/neco_a_01096): the ridge regression of one region's connectivity on its kernel, and again on that of the
other. Kernels are Gaussian, plus one, so that effects of each region alone are among what can be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from scmodelforge.connectome.baselines.base import Baseline, Inputs, register_baseline, training_regions
from scmodelforge.connectome.baselines.features import folded_places, known_connectivity
from scmodelforge.connectome.baselines.search import best_candidate
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import hemisphere_sides

__all__ = ["KroneckerRidge", "KroneckerRidgeBoth", "KroneckerRidgeCoords"]

_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_SIDES = (0.0, 0.4)
_IMPUTATIONS = 6

Kernel = Callable[[RegionPairDataset], np.ndarray]
"""Gives the kernel of all regions of a data set with those it was fitted on, shape (R, n)."""


class Width(NamedTuple):
    """How wide a kernel is, and how far apart the hemispheres are for it."""

    of: str
    width: float
    side: float = 0.0


class _KroneckerRidge(Baseline):
    """Choose the kernel and the ridge inside training, then keep one matrix of weights."""

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        widths, ridge = self._choose(data, indices)
        self.chosen = {"ridge": ridge, **{f"{each.of}_width": each.width for each in widths}}
        if self.inputs != "genes":
            self.chosen["side"] = widths[-1].side
        self._mean = float(data.targets(indices).mean())
        self._kernel = _mean_kernel(data, training_regions(data, indices), widths)
        self._weights = _Solution(data, indices, self._kernel).weights(ridge)

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        kernel, pairs = 1 + self._kernel(data), data.pairs(indices)
        return np.asarray(self._mean + (kernel @ self._weights @ kernel.T)[pairs[:, 0], pairs[:, 1]])

    def _choose(self, data: RegionPairDataset, indices: np.ndarray) -> tuple[tuple[Width, ...], float]:
        """Return the widths of the kernels that are averaged, and the ridge."""
        parts = ("genes", "coords") if self.inputs == "both" else (self.inputs,)
        alone = [self._best(data, indices, [(each,) for each in _widths(part)]) for part in parts]
        if len(alone) == 1:
            return alone[0]
        return self._best(data, indices, [tuple(width for widths, _ in alone for width in widths)])

    def _best(
        self, data: RegionPairDataset, indices: np.ndarray, kernels: list[tuple[Width, ...]]
    ) -> tuple[tuple[Width, ...], float]:
        def predict_all(train: np.ndarray, held: np.ndarray) -> dict[tuple[tuple[Width, ...], float], np.ndarray]:
            found = {}
            mean, regions, pairs = data.targets(train).mean(), training_regions(data, train), data.pairs(held)
            for widths in kernels:
                kernel = _mean_kernel(data, regions, widths)
                solution, of_all = _Solution(data, train, kernel), 1 + kernel(data)
                for ridge in _RIDGES:
                    matrix = of_all @ solution.weights(ridge) @ of_all.T
                    found[widths, ridge] = mean + matrix[pairs[:, 0], pairs[:, 1]]
            return found

        return best_candidate(
            data, indices, predict_all, (kernels[0], _RIDGES[-1]), seed=self.seed, strategy=self.strategy
        )


@register_baseline("kronecker_ridge")
class KroneckerRidge(_KroneckerRidge):
    """Kernel of expression: every gene with variance 1 over the training regions."""


@register_baseline("kronecker_ridge_coords")
class KroneckerRidgeCoords(_KroneckerRidge):
    """Kernel of places alone, both hemispheres folded onto one and, if that is better, apart by a step."""

    inputs: ClassVar[Inputs] = "coords"


@register_baseline("kronecker_ridge_both")
class KroneckerRidgeBoth(_KroneckerRidge):
    """The mean of both kernels, each with the width that was best for it alone."""

    inputs: ClassVar[Inputs] = "both"


class _Solution:
    """Connectivity of training regions in the eigenvectors of their kernel, from which any ridge follows at once."""

    def __init__(self, data: RegionPairDataset, indices: np.ndarray, kernel: Kernel) -> None:
        regions = training_regions(data, indices)
        y, self.is_known = known_connectivity(data, indices, regions)
        self.y = np.where(self.is_known, y - data.targets(indices).mean(), 0)
        values, self.vectors = np.linalg.eigh(1 + kernel(data)[regions])
        self.values = np.maximum(values, 0)

    def weights(self, ridge: float) -> np.ndarray:
        """Return the matrix that stands between the kernels, shape (n, n).

        Entries of Y that are not known, the diagonal among them, are filled by what is predicted there, repeatedly.
        """
        shrunk = np.outer(self.values / (self.values + ridge), self.values / (self.values + ridge))
        inside = self.vectors.T @ self.y @ self.vectors
        for _ in range(_IMPUTATIONS):
            predicted = self.vectors @ (inside * shrunk) @ self.vectors.T
            inside = self.vectors.T @ np.where(self.is_known, self.y, predicted) @ self.vectors
        inside = inside / np.outer(self.values + ridge, self.values + ridge)
        return np.asarray(self.vectors @ inside @ self.vectors.T)


def _widths(of: str) -> Iterator[Width]:
    if of == "genes":
        yield from (Width(of, width) for width in _WIDTHS)
    else:
        yield from (Width(of, width, side) for side, width in product(_SIDES, _WIDTHS))


def _mean_kernel(data: RegionPairDataset, regions: np.ndarray, widths: tuple[Width, ...]) -> Kernel:
    kernels = [_gaussian(data, regions, each) for each in widths]
    return lambda of: np.asarray(np.mean([kernel(of) for kernel in kernels], axis=0))


def _gaussian(data: RegionPairDataset, regions: np.ndarray, setting: Width) -> Kernel:
    """Return ``exp(-width d^2 / m)``, where m is the median squared distance of the training regions."""
    features = _scaled_genes(data, regions) if setting.of == "genes" else _places(data, regions, setting.side)
    known = features(data)[regions]
    between = cdist(known, known, "sqeuclidean")[np.triu_indices(len(known), 1)]
    scale = max(float(np.median(between)), 1e-12)
    return lambda of: np.asarray(np.exp(-setting.width * cdist(features(of), known, "sqeuclidean") / scale))


def _scaled_genes(data: RegionPairDataset, regions: np.ndarray) -> Kernel:
    spread = data.X.numpy()[regions].astype(np.float64).std(axis=0)
    varies = spread > 1e-9
    return lambda of: of.X.numpy().astype(np.float64)[:, varies] / spread[varies]


def _places(data: RegionPairDataset, regions: np.ndarray, side: float) -> Kernel:
    places = folded_places(data)[regions]
    typical = float(np.median(cdist(places, places)[np.triu_indices(len(places), 1)]))

    def features(of: RegionPairDataset) -> np.ndarray:
        sides = hemisphere_sides(of)
        assert sides is not None  # there are coordinates
        return np.column_stack([folded_places(of), side * typical / 2 * sides])

    return features
