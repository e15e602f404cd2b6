"""What every baseline does: it is fitted on the pairs of training, and predicts any pair from genes and places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge._registry import CONNECTOME_BASELINES
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import required_coords

__all__ = ["Baseline", "Inputs", "get_baseline", "list_baselines", "register_baseline", "training_regions"]

Inputs = Literal["nothing", "genes", "coords", "both"]

B = TypeVar("B", bound="type[Baseline]")


class Baseline:
    """Base of the baselines. A subclass writes ``_fit`` and ``_predict``.

    All that is chosen or estimated (scales, components, hyperparameters) comes from the pairs given to ``fit`` and from
    the genes and places of their regions. Where connectivity has no direction, a pair and its mirror image get the same
    prediction.

    Parameters
    ----------
    seed
        Base of the draws, for those that have any.
    strategy
        How folds of regions inside training are made, by which hyperparameters are chosen: as the split whose regions
        are to be predicted, else what is chosen relies on neighbours or twins that will not be there.

    Attributes
    ----------
    inputs
        What it knows of a region: ``nothing``, ``genes``, ``coords`` or ``both``.
    chosen
        The hyperparameters that cross-validation took, after ``fit``; empty where there is nothing to choose.
    """

    inputs: ClassVar[Inputs] = "genes"

    def __init__(self, *, seed: int = 0, strategy: str = "random") -> None:
        self.seed = seed
        self.strategy = strategy
        self.chosen: dict[str, float] = {}
        self._is_fitted = False

    def fit(self, dataset: RegionPairDataset, train_indices: Sequence[int] | np.ndarray) -> Baseline:
        """Fit on some pairs and return the baseline.

        Raises
        ------
        ConfigError
            (a ``ValueError``) If there is no pair.
        DataError
            (a ``ValueError``) If it needs coordinates and the data set has none.
        """
        indices = np.unique(np.asarray(train_indices, dtype=np.int64))
        if not len(indices):
            msg = f"{type(self).__name__} was given no pair to fit on; at least one is needed."
            raise ConfigError(msg)
        if self.inputs in ("coords", "both"):
            required_coords(dataset, f"the baseline {type(self).__name__}")
        if not dataset.is_directed:
            indices = np.unique(indices // 2) * 2  # one of each pair and its mirror image
        self._fit(dataset, indices)
        self._is_fitted = True
        return self

    def predict(self, dataset: RegionPairDataset, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the predicted connectivity of some pairs, shape (n,), float64.

        Raises
        ------
        ConfigError
            If it is not fitted.
        """
        if not self._is_fitted:
            msg = f"{type(self).__name__} is not fitted; call fit(dataset, train_indices) first."
            raise ConfigError(msg)
        return np.asarray(self._predict(dataset, np.asarray(indices, dtype=np.int64)), dtype=np.float64)

    def _fit(self, data: RegionPairDataset, indices: np.ndarray) -> None:
        raise NotImplementedError

    def _predict(self, data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def register_baseline(name: str) -> Callable[[B], B]:
    """Return a class decorator that makes a baseline known under ``name``."""
    return CONNECTOME_BASELINES.register(name)


def get_baseline(name: str, *, seed: int = 0, strategy: str = "random") -> Baseline:
    """Return a new baseline, to be fitted.

    Parameters
    ----------
    name
        One of :func:`list_baselines`.
    seed
        Base of its draws.
    strategy
        The strategy of the split that it is scored on, by which it chooses its hyperparameters inside training.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If there is none of that name; the message lists those there are.
    """
    found: Baseline = CONNECTOME_BASELINES.get(name)(seed=seed, strategy=strategy)
    return found


def list_baselines() -> list[str]:
    """Return the names of all baselines, sorted."""
    return CONNECTOME_BASELINES.names()


def training_regions(data: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
    """Return the regions of some pairs, ascending."""
    return np.unique(data.pairs(indices))
