"""Linear models of pair features: ridge on components, bilinear on components, bilinear on PLS components."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.linear_model import Ridge

from scmodelforge.connectome.baselines.base import Baseline, register_baseline
from scmodelforge.connectome.baselines.features import (
    RegionCodes,
    bilinear_features,
    pca_codes,
    pls_codes,
    symmetric_features,
)
from scmodelforge.connectome.baselines.search import best_candidate
from scmodelforge.connectome.data import RegionPairDataset

__all__ = ["BilinearPCA", "BilinearPLS", "RidgePCA"]

_ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)


class _RidgeOfPairs(Baseline):
    """Ridge regression on features of two regions' codes; how many codes, and how much ridge, is chosen inside."""

    sizes: ClassVar[tuple[int, ...]]

    @staticmethod
    def features(first: np.ndarray, second: np.ndarray, is_directed: bool) -> np.ndarray:
        """Return numbers of pairs, shape (n, F), from the codes of both regions, shape (n, D)."""
        raise NotImplementedError

    def _codes(self, data: RegionPairDataset, indices: np.ndarray, size: int) -> RegionCodes:
        return pca_codes(data, indices, size)

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        def predict_all(train: np.ndarray, held: np.ndarray) -> dict[tuple[int, float], np.ndarray]:
            found = {}
            for size in self.sizes:
                codes = self._codes(data, train, size)
                known, asked = (self._of_pairs(codes, data, each) for each in (train, held))
                for alpha in _ALPHAS:
                    found[size, alpha] = Ridge(alpha).fit(known, data.targets(train)).predict(asked)
            return found

        size, alpha = best_candidate(
            data, indices, predict_all, (self.sizes[0], _ALPHAS[-1]), seed=self.seed, strategy=self.strategy
        )
        self.chosen = {"components": size, "alpha": alpha}
        self._fitted_codes = self._codes(data, indices, size)
        self._ridge = Ridge(alpha).fit(self._of_pairs(self._fitted_codes, data, indices), data.targets(indices))

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self._ridge.predict(self._of_pairs(self._fitted_codes, data, indices)))

    def _of_pairs(self, codes: RegionCodes, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        of_regions, pairs = codes(data), data.pairs(indices)
        return self.features(of_regions[pairs[:, 0]], of_regions[pairs[:, 1]], data.is_directed)


@register_baseline("ridge")
class RidgePCA(_RidgeOfPairs):
    """Ridge on sums, products and absolute differences of principal components of expression."""

    features = staticmethod(symmetric_features)
    sizes = (5, 10, 20, 40)


@register_baseline("bilinear")
class BilinearPCA(_RidgeOfPairs):
    """``c + b (p_i + p_j) + p_i W p_j`` of principal components p, with ridge."""

    features = staticmethod(bilinear_features)
    sizes = (5, 10, 20, 30)


@register_baseline("pls")
class BilinearPLS(_RidgeOfPairs):
    """The bilinear form of components by partial least squares on the connectivity of training regions."""

    features = staticmethod(bilinear_features)
    sizes = (2, 5, 10, 20)

    def _codes(self, data: RegionPairDataset, indices: np.ndarray, size: int) -> RegionCodes:
        return pls_codes(data, indices, size)
