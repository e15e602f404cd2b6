"""Expression maps that mean nothing but are as smooth as the real ones: what a model scores on them is chance.

Neighbouring regions are alike in expression and in connectivity, so a model may predict connectivity from any smooth
map. Shuffled regions are no fair null, because the shuffled maps are not smooth.
"""

from __future__ import annotations

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.connectome.data import RegionPairDataset, replaced
from scmodelforge.connectome.geometry import distances, required_coords
from scmodelforge.data.draws import generator

__all__ = ["morans_i", "null_expression", "surrogate_maps"]


def surrogate_maps(maps: np.ndarray, coords: np.ndarray, *, seed: int = 0, keep_values: bool = False) -> np.ndarray:
    """Return random maps of the same spatial autocorrelation: Moran spectral randomisation.

    Each map is written in the eigenvectors of the centred matrix of spatial weights (one over the distance), and the
    signs of the coefficients are drawn (the "singleton" procedure of Wagner & Dray 2015, doi:10.1111/2041-210X.12407).
    Moran's I, mean and variance of every map stay exactly, and because all maps share the signs, so do the covariances
    of genes.

    Parameters
    ----------
    maps
        Values of each region, shape (R, G).
    coords
        Coordinates, shape (R, 3).
    seed
        Base of the draws.
    keep_values
        Give each map exactly its own values, in the order of the surrogate's. What is said above then holds about.

    Raises
    ------
    ConfigError
        If maps and coordinates differ in their number of regions, or two regions are in one place.
    """
    maps = np.asarray(maps, dtype=np.float64)
    vectors = _moran_vectors(_weights(coords, len(maps)))
    signs = generator(seed, "signs of surrogate maps").choice([-1.0, 1.0], size=vectors.shape[1])
    mean = maps.mean(axis=0)
    found = mean + (vectors * signs) @ (vectors.T @ (maps - mean))
    if not keep_values:
        return np.asarray(found)
    ranks = found.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    return np.take_along_axis(np.sort(maps, axis=0), ranks, axis=0)


def null_expression(data: RegionPairDataset, *, seed: int = 0) -> RegionPairDataset:
    """Return the same pairs with surrogate maps for expression, each gene with exactly its own values.

    Raises
    ------
    DataError
        If the data set has no coordinates.
    """
    coords = required_coords(data, "a null of smooth maps")
    return replaced(data, surrogate_maps(data.X.numpy(), coords, seed=seed, keep_values=True))


def morans_i(maps: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Return Moran's I of each map, shape (G,), with one over the distance as weight."""
    weights = _weights(coords, len(maps))
    gaps = np.asarray(maps, dtype=np.float64) - np.mean(maps, axis=0)
    return np.asarray(len(maps) / weights.sum() * (gaps * (weights @ gaps)).sum(axis=0) / (gaps**2).sum(axis=0))


def _weights(coords: np.ndarray, num_regions: int) -> np.ndarray:
    apart = distances(np.asarray(coords, dtype=np.float64))
    np.fill_diagonal(apart, np.inf)
    if len(apart) != num_regions or not apart.min() > 0:
        msg = (
            f"there are maps of {num_regions} regions and coordinates of {len(apart)}, the closest "
            f"{apart.min():.3g} mm apart; each region needs a place of its own."
        )
        raise ConfigError(msg)
    return np.asarray(1 / apart)


def _moran_vectors(weights: np.ndarray) -> np.ndarray:
    """Return the eigenvectors of the centred weights but the constant one, shape (R, R - 1)."""
    size = len(weights)
    # Householder basis of all that sums to zero: the centred matrix would have the constant vector mixed with others
    basis = np.linalg.qr(np.column_stack([np.ones(size), np.eye(size)[:, : size - 1]]))[0][:, 1:]
    return np.asarray(basis @ np.linalg.eigh(basis.T @ weights @ basis)[1])
