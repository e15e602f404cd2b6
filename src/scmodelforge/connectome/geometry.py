"""Where regions lie to each other: distances, hemispheres and twins across the midline."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from scmodelforge._errors import DataError
from scmodelforge.connectome.data import RegionPairDataset

__all__ = ["distances", "hemisphere_sides", "required_coords", "twin_groups"]

_LEFT = ("l", "lh", "left")
_RIGHT = ("r", "rh", "right")


def required_coords(data: RegionPairDataset, what: str) -> np.ndarray:
    """Return the coordinates, shape (R, 3), float64.

    Raises
    ------
    DataError
        If there are none; ``what`` is what needs them.
    """
    if data.coords is None:
        msg = f"{what} needs coordinates, and the data set has none; give it coords, mm, regions x 3."
        raise DataError(msg)
    return data.coords.numpy().astype(np.float64)


def distances(coords: np.ndarray, *, folded: bool = False) -> np.ndarray:
    """Return the Euclidean distance of every two regions in mm, shape (R, R).

    Parameters
    ----------
    coords
        Shape (R, 3).
    folded
        Mirror the right hemisphere onto the left one first, so that twins are close, as their connectivity has it.
    """
    at = np.column_stack([np.abs(coords[:, 0]), coords[:, 1:]]) if folded else coords
    return np.asarray(cdist(at, at))


def hemisphere_sides(data: RegionPairDataset) -> np.ndarray | None:
    """Return -1 for regions on the left, 1 on the right and 0 for others, shape (R,); ``None`` if it is not known.

    Labels decide where there are any (L, LH or left; R, RH or right), else the sign of x.
    """
    if data.hemispheres is not None:
        words = [str(label).strip().lower() for label in data.hemispheres]
        return np.array([-1 if word in _LEFT else int(word in _RIGHT) for word in words])
    if data.coords is None:
        return None
    return np.sign(data.coords.numpy()[:, 0]).astype(np.int64)


def twin_groups(data: RegionPairDataset) -> np.ndarray:
    """Return the group of each region and its twin in the other hemisphere, shape (R,), codes from 0.

    Regions of the smaller hemisphere are matched one-to-one to the mirror images of the other's so that the distances
    sum to the least; a region left over joins the group of the one that its own mirror image is closest to. Regions of
    neither side are groups of their own.

    Raises
    ------
    DataError
        If there are no coordinates, or one hemisphere has no region.
    """
    coords = required_coords(data, "a homotopic split")
    sides = hemisphere_sides(data)
    assert sides is not None
    left, right = np.flatnonzero(sides < 0), np.flatnonzero(sides > 0)
    if not len(left) or not len(right):
        msg = f"a homotopic split needs regions of both hemispheres; there are {len(left)} left and {len(right)} right."
        raise DataError(msg)
    few, many = (left, right) if len(left) <= len(right) else (right, left)
    gaps = cdist(coords[few] * (-1, 1, 1), coords[many])  # (few, many)
    groups = np.arange(data.num_regions)
    groups[many] = groups[few[gaps.argmin(axis=0)]]
    rows, columns = linear_sum_assignment(gaps)
    groups[many[columns]] = groups[few[rows]]
    return np.unique(groups, return_inverse=True)[1]
