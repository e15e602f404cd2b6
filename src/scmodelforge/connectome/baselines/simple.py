"""Baselines of one or two numbers for each pair: nothing, distance, and how alike the expression profiles are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LinearRegression

from scmodelforge.connectome.baselines.base import Baseline, Inputs, register_baseline
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import distances, required_coords

__all__ = ["CorrelatedExpression", "CorrelatedExpressionAndDistance", "ExponentialDecay", "GaussianDecay", "Mean"]


@register_baseline("mean")
class Mean(Baseline):
    """The mean connectivity of the training pairs, for every pair."""

    inputs: ClassVar[Inputs] = "nothing"

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        self._mean = data.targets(indices).mean()

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return np.full(len(indices), self._mean)


class _Linear(Baseline):
    """A straight line, or plane, through figures of pairs."""

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        self._line = LinearRegression().fit(self._figures(data, indices), data.targets(indices))

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self._line.predict(self._figures(data, indices)))

    def _figures(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@register_baseline("cge")
class CorrelatedExpression(_Linear):
    """Correlated gene expression: a line through the Pearson correlation of two regions' profiles over genes."""

    def _figures(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return _profile_correlations(data, indices)[:, None]


class _Decay(_Linear):
    """``a + b f(d / scale)`` of the distance d with both hemispheres folded onto one, fitted by least squares."""

    inputs: ClassVar[Inputs] = "coords"

    @staticmethod
    def shape(ratio: np.ndarray) -> np.ndarray:
        """Return f of distances over the scale."""
        raise NotImplementedError

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        apart, true = _pair_distances(data, indices, folded=True), data.targets(indices)

        def left_over(log_scale: float) -> float:
            figures = self.shape(apart / np.exp(log_scale))[:, None]
            return float(((LinearRegression().fit(figures, true).predict(figures) - true) ** 2).sum())

        # Three decades around the distances there are; beyond them the shape is a straight line, or a spike at zero.
        typical = np.log(max(float(np.median(apart)), 1e-6))
        found = minimize_scalar(left_over, bounds=(typical - 3.5, typical + 3.5), method="bounded")
        self.chosen = {"scale": float(np.exp(found.x))}
        super()._fit(data, indices)

    def _figures(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return self.shape(_pair_distances(data, indices, folded=True) / self.chosen["scale"])[:, None]


@register_baseline("exponential_decay")
class ExponentialDecay(_Decay):
    """``a + b exp(-d / scale)`` of the distance d with both hemispheres folded onto one."""

    @staticmethod
    def shape(ratio: np.ndarray) -> np.ndarray:
        """Return f of distances over the scale."""
        return np.asarray(np.exp(-ratio))


@register_baseline("gaussian_kernel")
class GaussianDecay(_Decay):
    """``a + b exp(-(d / scale)^2 / 2)`` of the distance d with both hemispheres folded onto one."""

    @staticmethod
    def shape(ratio: np.ndarray) -> np.ndarray:
        """Return f of distances over the scale."""
        return np.asarray(np.exp(-(ratio**2) / 2))


@register_baseline("cge_distance")
class CorrelatedExpressionAndDistance(_Linear):
    """A plane through the correlation of profiles, both distances (as they are, and folded) and exponential decay."""

    inputs: ClassVar[Inputs] = "both"

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        self._decay = ExponentialDecay().fit(data, indices)
        super()._fit(data, indices)

    def _figures(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [
                _profile_correlations(data, indices),
                _pair_distances(data, indices, folded=False),
                _pair_distances(data, indices, folded=True),
                self._decay.predict(data, indices),
            ]
        )


def _profile_correlations(data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair's profiles, shape (n,); 0 where one of them is constant."""
    x = data.X.numpy().astype(np.float64)
    gaps = x - x.mean(axis=1, keepdims=True)
    sizes = np.sqrt((gaps**2).sum(axis=1, keepdims=True))
    unit = np.divide(gaps, sizes, out=np.zeros_like(gaps), where=sizes > 1e-12 * np.abs(x).max())
    pairs = data.pairs(indices)
    return np.asarray((unit @ unit.T)[pairs[:, 0], pairs[:, 1]])


def _pair_distances(data: RegionPairDataset, indices: np.ndarray, *, folded: bool) -> np.ndarray:
    pairs = data.pairs(indices)
    apart = distances(required_coords(data, "a baseline of distances"), folded=folded)
    return np.asarray(apart[pairs[:, 0], pairs[:, 1]])
