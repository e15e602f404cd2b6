"""Few numbers for a region, and for a pair of regions, of which linear models and trees are made."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA

from scmodelforge.connectome.baselines.base import training_regions
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import required_coords

__all__ = [
    "RegionCodes",
    "bilinear_features",
    "folded_places",
    "joined_features",
    "known_connectivity",
    "pca_codes",
    "pls_codes",
    "symmetric_features",
]

RegionCodes = Callable[[RegionPairDataset], np.ndarray]
"""Gives the numbers of all regions of a data set, shape (R, D); fitted on regions of training."""


def pca_codes(
    data: RegionPairDataset, indices: np.ndarray, num_components: int, *, with_coords: bool = False
) -> RegionCodes:
    """Return principal components of the expression of the pairs' regions, scaled so that the first has variance 1.

    Parameters
    ----------
    data
        Pairs of regions.
    indices
        Items whose regions the components are fitted on.
    num_components
        How many; fewer where there are fewer regions or genes.
    with_coords
        Add the folded place of a region, each axis with variance 1 over these regions.
    """
    regions = training_regions(data, indices)
    x = data.X.numpy().astype(np.float64)[regions]
    pca = PCA(min(num_components, len(regions) - 1, x.shape[1]), svd_solver="full").fit(x)
    scale = max(float(np.sqrt(pca.explained_variance_[0])), 1e-12)
    places = folded_places(data)[regions] if with_coords else np.zeros((1, 0))
    mean, spread = places.mean(axis=0), np.maximum(places.std(axis=0), 1e-12)

    def codes(of: RegionPairDataset) -> np.ndarray:
        found = pca.transform(of.X.numpy().astype(np.float64)) / scale
        return np.column_stack([found, (folded_places(of) - mean) / spread]) if with_coords else found

    return codes


def pls_codes(data: RegionPairDataset, indices: np.ndarray, num_components: int) -> RegionCodes:
    """Return partial least squares components of expression, fitted on each region's connectivity with the others."""
    regions = training_regions(data, indices)
    x = data.X.numpy().astype(np.float64)[regions]
    y, is_known = known_connectivity(data, indices, regions)
    column_means = np.where(is_known, y, 0).sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
    profiles = np.where(is_known, y, column_means)
    if data.is_directed:
        profiles = np.column_stack([profiles, profiles.T])
    pls = PLSRegression(min(num_components, len(regions) - 1, x.shape[1]), scale=False)
    with warnings.catch_warnings():
        # nothing is left to explain: the components from there on are zero, and do no harm
        warnings.filterwarnings("ignore", message="y residual is constant")
        pls.fit(x, profiles)
    scale = max(float(pls.transform(x).std(axis=0).max()), 1e-12)
    return lambda of: np.asarray(pls.transform(of.X.numpy().astype(np.float64)) / scale)


def folded_places(data: RegionPairDataset) -> np.ndarray:
    """Return the coordinates with the right hemisphere mirrored onto the left one, shape (R, 3)."""
    coords = required_coords(data, "a baseline of places")
    return np.column_stack([np.abs(coords[:, 0]), coords[:, 1:]])


def known_connectivity(
    data: RegionPairDataset, indices: np.ndarray, regions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the connectivity of some regions as far as the items tell it, and which entries they do; both (n, n)."""
    rows = np.searchsorted(regions, data.pairs(indices))
    y = np.zeros((len(regions), len(regions)))
    is_known = np.zeros(y.shape, dtype=bool)
    y[rows[:, 0], rows[:, 1]] = data.targets(indices)
    is_known[rows[:, 0], rows[:, 1]] = True
    if not data.is_directed:  # items are one of each pair and its mirror image
        y = np.where(is_known, y, y.T)
        is_known |= is_known.T
    return y, is_known


def symmetric_features(first: np.ndarray, second: np.ndarray, is_directed: bool) -> np.ndarray:
    """Return sums, products and absolute differences of two regions' codes; differences too where direction counts."""
    parts = [first + second, first * second, np.abs(first - second)]
    return np.column_stack([*parts, first - second] if is_directed else parts)


def bilinear_features(first: np.ndarray, second: np.ndarray, is_directed: bool) -> np.ndarray:
    """Return all products of a code of one region with one of the other, and the codes themselves.

    Without direction a product and its mirror image count together.
    """
    products = first[:, :, None] * second[:, None, :]  # (n, D, D)
    if is_directed:
        return np.column_stack([products.reshape(len(first), -1), first, second])
    rows, columns = np.triu_indices(first.shape[1])
    both = (products + products.transpose(0, 2, 1))[:, rows, columns] / np.where(rows == columns, 2, np.sqrt(2))
    return np.column_stack([both, first + second])


def joined_features(first: np.ndarray, second: np.ndarray, is_directed: bool) -> np.ndarray:
    """Return the codes of both regions one after another."""
    return np.column_stack([first, second])
