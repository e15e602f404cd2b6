"""A multilayer perceptron and boosted trees on principal components of both regions, by scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from scmodelforge.connectome.baselines.base import Baseline, Inputs, register_baseline
from scmodelforge.connectome.baselines.features import (
    RegionCodes,
    joined_features,
    pca_codes,
    symmetric_features,
)
from scmodelforge.connectome.baselines.search import best_candidate
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.data.draws import mix

__all__ = [
    "GradientBoosting",
    "GradientBoostingWithCoords",
    "MultilayerPerceptron",
    "MultilayerPerceptronWithCoords",
]

_NUM_FOLDS = 3  # fitting takes seconds


class _Learned(Baseline):
    """A regressor of scikit-learn on features of pairs; both orders of a pair are trained on, and averaged."""

    candidates: ClassVar[tuple[tuple[int, float], ...]]
    """Number of components, and how strongly the regressor is held back."""

    @staticmethod
    def features(first: np.ndarray, second: np.ndarray, is_directed: bool) -> np.ndarray:
        """Return numbers of pairs, shape (n, F), from the codes of both regions, shape (n, D)."""
        raise NotImplementedError

    def _regressor(self, strength: float, seed: int) -> Any:
        raise NotImplementedError

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        def predict_all(train: np.ndarray, held: np.ndarray) -> dict[tuple[int, float], np.ndarray]:
            found = {}
            for candidate in self.candidates:
                codes, regressor = self._fitted_on(data, train, *candidate)
                found[candidate] = self._averaged(codes, regressor, data, held)
            return found

        size, strength = best_candidate(
            data, indices, predict_all, self.candidates[0], seed=self.seed, strategy=self.strategy, num_folds=_NUM_FOLDS
        )
        self.chosen = {"components": size, "strength": strength}
        self._codes, self._fitted = self._fitted_on(data, indices, size, strength)

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return self._averaged(self._codes, self._fitted, data, indices)

    def _fitted_on(
        self, data: RegionPairDataset, indices: np.ndarray, size: int, strength: float
    ) -> tuple[RegionCodes, Any]:
        codes = pca_codes(data, indices, size, with_coords=self.inputs == "both")
        both = indices if data.is_directed else np.concatenate([indices, indices ^ 1])
        seed = int(mix(self.seed, type(self).__name__)) % 2**32
        # targets of variance 1, whatever their unit: the perceptron's weights and ridge are made for that
        regressor = TransformedTargetRegressor(self._regressor(strength, seed), transformer=StandardScaler())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a choice, not a fault
            regressor.fit(self._of_pairs(codes, data, both), data.targets(both))
        return codes, regressor

    def _averaged(self, codes: RegionCodes, regressor: Any, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        found = regressor.predict(self._of_pairs(codes, data, indices))
        if data.is_directed:
            return np.asarray(found)
        return np.asarray((found + regressor.predict(self._of_pairs(codes, data, indices ^ 1))) / 2)

    def _of_pairs(self, codes: RegionCodes, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        of_regions, pairs = codes(data), data.pairs(indices)
        return self.features(of_regions[pairs[:, 0]], of_regions[pairs[:, 1]], data.is_directed)


@register_baseline("mlp")
class MultilayerPerceptron(_Learned):
    """Two hidden layers on the principal components of both regions."""

    features = staticmethod(joined_features)
    candidates = ((20, 0.1), (40, 1.0))

    def _regressor(self, strength: float, seed: int) -> MLPRegressor:
        return MLPRegressor(
            hidden_layer_sizes=(128, 64), alpha=strength, learning_rate_init=2e-3, max_iter=30, random_state=seed
        )


@register_baseline("mlp_coords")
class MultilayerPerceptronWithCoords(MultilayerPerceptron):
    """The same with the folded places of both regions."""

    inputs: ClassVar[Inputs] = "both"


@register_baseline("gradient_boosting")
class GradientBoosting(_Learned):
    """Boosted trees on sums, products and absolute differences of principal components."""

    features = staticmethod(symmetric_features)
    candidates = ((10, 20.0), (20, 20.0))

    def _regressor(self, strength: float, seed: int) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            max_iter=200,
            learning_rate=0.05,
            max_leaf_nodes=15,
            min_samples_leaf=int(strength),
            early_stopping=False,  # it would hold out pairs, whose regions are seen
            random_state=seed,
        )


@register_baseline("gradient_boosting_coords")
class GradientBoostingWithCoords(GradientBoosting):
    """The same with the folded places of both regions."""

    inputs: ClassVar[Inputs] = "both"
