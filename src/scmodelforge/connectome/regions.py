"""Regions of a brain before they are paired: what a file or the planted set has, with names and labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import DataError, listed
from scmodelforge.connectome import _checks
from scmodelforge.connectome.data import RegionPairDataset

__all__ = ["Regions", "without_missing"]

_log = logging.getLogger(__name__)
_LISTED = 5


@dataclass(frozen=True)
class Regions:
    """Expression, connectivity and places of the regions of one atlas.

    Attributes
    ----------
    X
        Expression, shape (R, G), float32.
    Y
        Connectivity, shape (R, R), float32.
    coords
        Coordinates in mm, shape (R, 3), x from left to right; or ``None``.
    genes
        Name of each column of X.
    regions
        Name of each region.
    valid2true_mapping
        Number of each row in the full atlas.
    dataset, parcellation
        Labels.
    networks, hemispheres
        Labels of the regions, shape (R,), or ``None``.
    """

    X: np.ndarray
    Y: np.ndarray
    coords: np.ndarray | None
    genes: Sequence[str]
    regions: Sequence[str]
    valid2true_mapping: dict[int, int]
    dataset: str
    parcellation: str
    networks: np.ndarray | None = None
    hemispheres: np.ndarray | None = None

    def arguments(self) -> dict[str, Any]:
        """Return what :class:`~scmodelforge.connectome.RegionPairDataset` takes."""
        return {
            "X": self.X,
            "Y": self.Y,
            "coords": self.coords,
            "valid2true_mapping": self.valid2true_mapping,
            "dataset": self.dataset,
            "parcellation": self.parcellation,
            "valid_genes": self.genes,
            "networks": self.networks,
            "hemispheres": self.hemispheres,
            "regions": self.regions,
        }

    def pairs(self) -> RegionPairDataset:
        """Return the pairs of these regions."""
        return RegionPairDataset(**self.arguments())


def without_missing(table: Regions) -> Regions:
    """Leave out regions with missing or infinite values, and say which.

    A region goes if its expression or coordinates have a missing value. Of regions that miss connectivity those with
    the most missing pairs go first, until none is missing.

    Raises
    ------
    DataError
        If fewer than two regions are left.
    """
    lost = _checks.missing_regions(table.X, table.Y, table.coords)
    if not lost.any():
        return table
    kept = np.flatnonzero(~lost)
    names = [str(table.regions[int(row)]) for row in np.flatnonzero(lost)]
    if len(kept) < _checks.FEWEST_REGIONS:
        msg = (
            f"{len(names)} of the {len(lost)} regions have missing values ({listed(names, _LISTED)}); at least "
            f"{_checks.FEWEST_REGIONS} without any are needed."
        )
        raise DataError(msg)
    _log.warning(f"left out {len(names)} regions with missing values: {listed(names, _LISTED)}.")
    return Regions(
        X=table.X[kept],
        Y=table.Y[np.ix_(kept, kept)],
        coords=None if table.coords is None else table.coords[kept],
        genes=table.genes,
        regions=[table.regions[int(row)] for row in kept],
        valid2true_mapping={new: table.valid2true_mapping[int(old)] for new, old in enumerate(kept)},
        dataset=table.dataset,
        parcellation=table.parcellation,
        networks=None if table.networks is None else table.networks[kept],
        hemispheres=None if table.hemispheres is None else table.hemispheres[kept],
    )
