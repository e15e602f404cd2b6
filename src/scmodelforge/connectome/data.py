"""Pairs of brain regions as items: the genes of both, their coordinates, and how strongly they are connected.

A pair is two numbers. Expression is stored once, (R, G), and gathered when an item is asked for; 456 regions with
7,380 genes would otherwise take 12 GB.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from scmodelforge._errors import DataError, listed
from scmodelforge.connectome import _checks

__all__ = ["RegionPairDataset", "between", "minmax_scaled", "region_pair_collate", "replaced"]

_log = logging.getLogger(__name__)

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]


class RegionPairDataset(Dataset[Item]):
    """Ordered pairs of different regions; item k is ``(x, y, coords, k)``.

    ``x`` is the expression of region i followed by that of region j, shape (2G,), ``y`` their connectivity, shape (),
    and ``coords`` the coordinates of both, shape (6,); all float32. Unordered pairs i < j stand in lexicographic order;
    index 2p is (i, j) and index 2p + 1 is (j, i), so ``k ^ 1`` is the mirrored pair. No region is paired with itself.

    Parameters
    ----------
    X
        Expression, shape (R, G), in [0, 1] where it is to be binned. It may be of the full atlas if
        ``valid2true_mapping`` leaves out rows, all of which have missing values.
    Y
        Connectivity, shape (R, R). The diagonal is not read. It may be directed: ``Y[i, j]`` is then the target of
        (i, j).
    coords
        Coordinates in mm, shape (R, 3), x from left (negative) to right; ``None`` if there are none, which gives items
        zeros.
    valid2true_mapping
        Number of each row of X in the full atlas; ``None`` numbers them as they stand.
    dataset, parcellation
        Labels; nothing depends on them.
    valid_genes
        Name of each column of X.
    networks, hemispheres, regions
        Labels and names of the regions, for splits, for scores by group and for messages.

    Raises
    ------
    DataError
        (a ``ValueError``) If shapes do not fit, values are missing, or names are not unique.
    """

    def __init__(
        self,
        X: Any,
        Y: Any,
        coords: Any | None,
        valid2true_mapping: Mapping[int, int] | None,
        dataset: str,
        parcellation: str,
        valid_genes: Sequence[str],
        *,
        networks: Sequence[str] | None = None,
        hemispheres: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
    ) -> None:
        x = _checks.numbers(X, "X", (None, None), "regions x genes")
        y = _checks.numbers(Y, "Y", (len(x), len(x)), "regions x regions, as many as X has rows")
        at = None if coords is None else _checks.numbers(coords, "coords", (len(x), 3), "regions x 3 coordinates")
        names = _checks.checked_names(regions, "regions", len(x), needs="a row of X")
        self.valid_genes = _checks.checked_names(valid_genes, "valid_genes", x.shape[1], needs="a column of X")
        self.networks = _checks.checked_labels(networks, "networks", len(x))
        self.hemispheres = _checks.checked_labels(hemispheres, "hemispheres", len(x))
        self.valid2true_mapping = _checks.checked_mapping(valid2true_mapping, len(x))
        rows = _kept_rows(self.valid2true_mapping, x, y, at)
        if rows is not None:
            x, y, at = x[rows], y[np.ix_(rows, rows)], None if at is None else at[rows]
            names = [names[row] for row in rows]
            self.networks = None if self.networks is None else self.networks[rows]
            self.hemispheres = None if self.hemispheres is None else self.hemispheres[rows]
        if len(x) < _checks.FEWEST_REGIONS or not x.shape[1]:
            msg = f"X has {len(x)} regions and {x.shape[1]} genes; at least two regions and one gene are needed."
            raise DataError(msg)
        _checks.check_complete(x, y, at, names)
        self.X, self.Y = _tensor(x), _tensor(y)
        self.coords = None if at is None else _tensor(at)
        self.region_names, self.dataset, self.parcellation = names, dataset, parcellation
        self.is_directed = not _checks.is_symmetric(y)
        self._tell(x)
        first, second = np.triu_indices(len(x), 1)
        self._pairs = np.empty((2 * len(first), 2), dtype=np.int32)
        self._pairs[0::2, 0], self._pairs[0::2, 1] = first, second
        self._pairs[1::2, 0], self._pairs[1::2, 1] = second, first

    @property
    def num_regions(self) -> int:
        """Number of regions, R."""
        return int(self.X.shape[0])

    @property
    def num_genes(self) -> int:
        """Number of genes of a region, G."""
        return int(self.X.shape[1])

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several items, gathered at once; a ``DataLoader`` asks for its batches so."""
        batch = self.batch(indices)
        numbers = batch["idx"].tolist()
        return list(zip(batch["x"], batch["y"], batch["coords"], numbers, strict=True))

    def batch(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> dict[str, torch.Tensor]:
        """Return pairs as one batch: ``x`` (B, 2G), ``y`` (B,), ``coords`` (B, 6) and ``idx`` (B,), int64."""
        pairs = torch.from_numpy(self.pairs(indices))  # (B, 2)
        first, second = pairs[:, 0], pairs[:, 1]
        at = self.coords if self.coords is not None else self.X.new_zeros(self.num_regions, 3)
        return {
            "x": torch.cat([self.X[first], self.X[second]], dim=1),
            "y": self.Y[first, second],
            "coords": torch.cat([at[first], at[second]], dim=1),
            "idx": torch.as_tensor(np.asarray(indices, dtype=np.int64)),
        }

    def pairs(self, indices: Sequence[int] | np.ndarray | torch.Tensor | None = None) -> np.ndarray:
        """Return the regions i and j of some items, shape (n, 2), int64; of all for ``None``.

        Raises
        ------
        IndexError
            If there is no such item.
        """
        if indices is None:
            return self._pairs.astype(np.int64)
        found = np.asarray(indices, dtype=np.int64)
        if found.size and (found.min() < 0 or found.max() >= len(self)):
            wrong = int(found.min() if found.min() < 0 else found.max())
            msg = f"there is no pair {wrong:,}; pairs are numbered 0 to {len(self) - 1:,}."
            raise IndexError(msg)
        return self._pairs[found].astype(np.int64)

    def targets(self, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the connectivity of some pairs, shape (n,), float64; of all for ``None``."""
        pairs = self.pairs(indices)
        return self.Y.numpy().astype(np.float64)[pairs[:, 0], pairs[:, 1]]

    def pair_of(self, index: int) -> tuple[int, int]:
        """Return the rows of X of the regions of an item."""
        first, second = self.pairs([index])[0].tolist()
        return first, second

    def true_pair_of(self, index: int) -> tuple[int, int]:
        """Return the numbers of an item's regions in the full atlas."""
        first, second = self.pair_of(index)
        return self.valid2true_mapping[first], self.valid2true_mapping[second]

    def index_of(self, first: int, second: int) -> int:
        """Return the item of a pair of rows of X.

        Raises
        ------
        KeyError
            If there is none: a region has no pair with itself.
        """
        low, high = sorted((int(first), int(second)))
        if low == high or low < 0 or high >= self.num_regions:
            msg = f"there is no pair ({first}, {second}) of the {self.num_regions} regions."
            raise KeyError(msg)
        before = low * (2 * self.num_regions - low - 1) // 2
        return 2 * (before + high - low - 1) + int(first > second)

    def _tell(self, x: np.ndarray) -> None:
        """Say what is allowed but may not be meant."""
        if x.min() < 0 or x.max() > 1:
            _log.warning(
                f"expression ranges from {x.min():.3g} to {x.max():.3g}; bins of expression need [0, 1]: scale it by "
                "scmodelforge.connectome.minmax_scaled, fitted on the regions of training."
            )
        if self.is_directed:
            _log.warning("Y is not symmetric: connectivity is taken as directed, from i to j.")


def region_pair_collate(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """Return items as one batch: ``x`` (B, 2G), ``y`` (B,), ``coords`` (B, 6) and ``idx`` (B,), int64."""
    x, y, coords, index = zip(*items, strict=True)
    return {
        "x": torch.stack(x),
        "y": torch.stack(y),
        "coords": torch.stack(coords),
        "idx": torch.as_tensor(index, dtype=torch.int64),
    }


def minmax_scaled(data: RegionPairDataset, regions: Sequence[int] | np.ndarray) -> RegionPairDataset:
    """Return the same pairs with each gene scaled so that it spans [0, 1] over some regions; others are cut off there.

    Parameters
    ----------
    data
        Pairs of regions.
    regions
        Rows of X to fit on: those of training.

    Notes
    -----
    A gene that is constant over these regions is 0 everywhere.
    """
    x = data.X.numpy()
    return replaced(data, between(x, x[regions].min(axis=0), x[regions].max(axis=0)))


def between(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return expression, shape (R, G), scaled so that for each gene ``low`` is 0 and ``high`` is 1, and cut off there.

    A gene for which they are equal is 0 everywhere.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    span = np.where(high > low, high - low, np.inf)
    return np.asarray(np.clip((np.asarray(x, dtype=np.float64) - low) / span, 0, 1))


def replaced(data: RegionPairDataset, x: np.ndarray, genes: Sequence[str] | None = None) -> RegionPairDataset:
    """Return the same pairs with other expression, shape (R, G), and other genes if these are given."""
    return RegionPairDataset(
        x,
        data.Y,
        data.coords,
        data.valid2true_mapping,
        data.dataset,
        data.parcellation,
        data.valid_genes if genes is None else genes,
        networks=None if data.networks is None else data.networks.tolist(),
        hemispheres=None if data.hemispheres is None else data.hemispheres.tolist(),
        regions=data.region_names,
    )


def _kept_rows(
    mapping: Mapping[int, int], x: np.ndarray, y: np.ndarray, coords: np.ndarray | None
) -> np.ndarray | None:
    """Return the rows of the full atlas that the mapping keeps; ``None`` if it has all rows.

    Raises
    ------
    DataError
        If it leaves out a region of which nothing is missing.
    """
    if len(mapping) == len(x):
        return None
    kept = np.array(list(mapping.values()), dtype=np.int64)
    left = np.setdiff1d(np.arange(len(x)), kept)
    is_bad = ~np.isfinite(x).all(axis=1) | (~np.isfinite(y) | np.eye(len(y), dtype=bool)).all(axis=1)
    if coords is not None:
        is_bad |= ~np.isfinite(coords).all(axis=1)
    if kept.min() < 0 or kept.max() >= len(x) or not is_bad[left].all():
        whole = [str(row) for row in left if not is_bad[row]]
        msg = (
            f"valid2true_mapping has {len(mapping):,} of the {len(x):,} rows of X, and rows that it leaves out have "
            f"all values ({listed(whole, 5)}); it needs all rows of X, or all but the NaN regions of an atlas."
        )
        raise DataError(msg)
    return kept


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))  # a copy: nobody else changes it
