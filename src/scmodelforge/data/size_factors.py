"""Size factors of cells from pools of cells, as scran's ``computeSumFactors`` defines them, a group at a time.

Lun, Bach & Marioni 2016, doi:10.1186/s13059-016-0947-7. Single cells have too many zeros for a ratio of counts to say
much, sums over cells of like library size have few. So the cells of a group stand in a ring, ordered by library size
up one side and down the other; every run of 21, 26, ..., 101 neighbours is a pool; the median over genes of a pool's
summed expression (each cell's counts over its total) over the group's mean expression is the sum of the pool's
factors. These equations, and one of weight 1e-6 for each cell that sets its factor to 1, are solved by least squares;
times the cell's total this is its size factor. Genes take part that have a mean count of 0.1 in the group.

Where we differ, so that cells never stand in memory all at once:

- Groups are up to 3,000 neighbours in a file, not clusters. Groups are brought to one scale, as clusters are, by the
  median over genes of the ratio of mean expression; the reference is the one that expresses most genes of the first
  32, not of all.
- A run of cells in a ring is a circulant matrix, so the least squares are solved exactly by Fourier transforms.
- Factors that are not positive, of cells with too little in common with the others, are replaced as scran's
  ``cleanSizeFactors`` does: by the factor at which the curve a*f / (1 + b*f), fitted to the number of expressed genes
  over the positive factors, has the cell's number, or the nearest positive factor. The fit is by least squares, then
  three times anew with tricube weights.

A cell's factor depends on its neighbours in the file. There is nothing to carry over to other cells: new files get
factors of their own in the same way.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._pool_medians import run_medians
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import CellBlock, Panel, RowRange
from scmodelforge.data.vocab import GeneVocab

__all__ = ["fit_size_factors", "pooled_factors"]

_log = logging.getLogger(__name__)

_POOL_SIZES = tuple(range(21, 102, 5))
_MOST_CELLS = 3000
_MIN_MEAN = 0.1
_LOW_WEIGHT = 1e-6
_REFERENCE_GROUPS = 32
_CELLS_READ = 1024
#: First cells of pools that are summed together: bounds the dense rows in memory.
_POOLS_AT_ONCE = 192


def fit_size_factors(source: CellSource, *, most_cells: int = _MOST_CELLS) -> np.ndarray:
    """Return the size factor of each cell of a source, in one pass; their mean is 1.

    Parameters
    ----------
    source
        Cells with counts, which were checked.
    most_cells
        Most cells of a group; the groups of a file are equally large.

    Returns
    -------
    Shape (N,), float32, all positive. Cells without counts have 1.

    Raises
    ------
    DataError
        If a file has a group with too few cells or genes for pools, or shares no gene with the other files.
    """
    vocab = GeneVocab.from_panels(source.panels)
    groups: list[_Group] = []
    reference: _Group | None = None
    for file, size in enumerate(source.file_sizes):
        bounds = np.linspace(0, size, -(-size // most_cells) + 1).astype(int)
        for start, stop in pairwise(bounds.tolist()):
            groups.append(_Group.fit(_read(source, file, start, stop), vocab))
            if reference is None and len(groups) == _REFERENCE_GROUPS:
                reference = _choose_reference(groups)
            if reference is not None:
                groups[-1].rescale(reference)
    reference = reference or _choose_reference(groups)
    for group in groups:
        group.rescale(reference)
    factors: np.ndarray = np.concatenate([group.factors for group in groups], dtype=np.float32, casting="same_kind")
    has_counts = factors > 0
    factors[has_counts] /= factors[has_counts].mean(dtype=np.float64)
    factors[~has_counts] = 1.0
    _log.info(
        f"size factors of {np.count_nonzero(has_counts):,} cells from pools in {len(groups):,} groups: "
        f"{factors.min():.3g} to {factors.max():.3g}"
    )
    return factors


def pooled_factors(block: CellBlock) -> tuple[np.ndarray, np.ndarray]:
    """Return the size factors of the cells of one group, and the group's mean expression.

    Parameters
    ----------
    block
        Cells of a group, at least 21 of them with counts.

    Returns
    -------
    factors
        Counts of each cell over those of an average cell, shape (n,), float64; 0 for cells without counts.
    profile
        Mean over the cells of each gene's share in the cell's counts, shape (G,), float64.

    Raises
    ------
    DataError
        If there are too few cells, or no gene has a mean count of 0.1.
    """
    totals = block.totals()
    filled = np.flatnonzero(totals > 0)
    if len(filled) < _POOL_SIZES[0]:
        msg = (
            f"{block.panel.name}: data.preprocessing.normalize 'scran' pools {_POOL_SIZES[0]} cells and more, but "
            f"there are {len(filled):,} with counts; put the file's cells into a larger one, or use 'library_size'."
        )
        raise DataError(msg)
    cells = block.select(filled[_ring(totals[filled])])
    library = cells.totals()
    cells.data = cells.data / np.repeat(library, np.diff(cells.indptr))
    profile = np.bincount(cells.indices, weights=cells.data, minlength=len(block.panel.gene_ids)) / len(cells)
    used = profile * library.mean() >= _MIN_MEAN
    if not used.any():
        msg = (
            f"{block.panel.name}: data.preprocessing.normalize 'scran' needs genes with a mean count of {_MIN_MEAN:g}, "
            f"but none has so many in cells {block.positions[0]:,} to {block.positions[-1]:,} of the data; use "
            "'library_size'."
        )
        raise DataError(msg)
    rates = _solve(_pool_medians(cells, profile, used))
    ring_factors = _cleaned(rates * library, _num_expressed(cells, used))
    factors = np.zeros(len(block))
    factors[np.searchsorted(block.positions, cells.positions)] = ring_factors
    return factors, profile


@dataclass(slots=True)
class _Group:
    """Neighbouring cells of a file; the profile is there until the group has the scale of the reference."""

    panel: Panel
    factors: np.ndarray
    genes: np.ndarray
    profile: np.ndarray | None
    library: float

    @classmethod
    def fit(cls, block: CellBlock, vocab: GeneVocab) -> _Group:
        factors, profile = pooled_factors(block)
        totals = block.totals()
        return cls(block.panel, factors, vocab.map_panel(block.panel), profile, float(totals[totals > 0].mean()))

    def by_gene(self, size: int) -> np.ndarray:
        """Return the profile over a vocabulary, shape (V,), NaN for genes that the file does not have."""
        assert self.profile is not None
        known = self.genes >= 0
        found = np.bincount(self.genes[known], weights=self.profile[known], minlength=size)
        found[np.bincount(self.genes[known], minlength=size) == 0] = np.nan
        return found

    def rescale(self, reference: _Group) -> None:
        """Bring the factors to the scale of a reference group's."""
        if self.profile is None or reference is self:
            return
        size = int(max(self.genes.max(), reference.genes.max())) + 1
        mine, other = self.by_gene(size), reference.by_gene(size)
        with np.errstate(invalid="ignore"):
            used = (mine * self.library + other * reference.library) / 2 >= _MIN_MEAN
        ratio = float(np.median(_ratios(mine[used], other[used]))) if used.any() else 0.0
        if not 0 < ratio < np.inf:
            msg = (
                f"data.preprocessing.normalize 'scran' cannot compare cells of {self.panel.name} with those of "
                f"{reference.panel.name}: half of the {np.count_nonzero(used):,} genes they share with a mean count of "
                f"{_MIN_MEAN:g} are missing in one of them; check data.gene_id_column, or use 'library_size'."
            )
            raise DataError(msg)
        self.factors = (self.factors * ratio).astype(np.float32)
        self.profile = None


def _ratios(mine: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.divide(mine, other, out=np.full(len(mine), np.inf), where=other > 0)


def _choose_reference(groups: list[_Group]) -> _Group:
    """Return the group that expresses most genes, the first of several."""
    return max(groups, key=lambda group: 0 if group.profile is None else np.count_nonzero(group.profile))


def _read(source: CellSource, file: int, start: int, stop: int) -> CellBlock:
    parts = [
        source.read(RowRange(file, first, min(first + _CELLS_READ, stop))) for first in range(start, stop, _CELLS_READ)
    ]
    return CellBlock.concatenate(parts)


def _ring(totals: np.ndarray) -> np.ndarray:
    """Return the cells in ring order: by total, every other one ascending, then the rest descending."""
    order = np.argsort(totals, kind="stable")
    return np.concatenate([order[::2], order[1::2][::-1]])


def _num_expressed(cells: CellBlock, used: np.ndarray) -> np.ndarray:
    rows = np.repeat(np.arange(len(cells)), np.diff(cells.indptr))
    return np.bincount(rows, weights=(cells.data > 0) & used[cells.indices], minlength=len(cells))


def _pool_medians(cells: CellBlock, profile: np.ndarray, used: np.ndarray) -> dict[int, np.ndarray]:
    """Return for each size of pools the median ratio of the pool that begins at each cell of the ring, shape (n,)."""
    number = len(cells)
    sizes = np.array([size for size in _POOL_SIZES if size <= number])
    medians = np.empty((len(sizes), number))
    column = np.where(used, np.cumsum(used) - 1, -1)[cells.indices]
    ratios = cells.data / profile[cells.indices]
    for first in range(0, number, _POOLS_AT_ONCE):
        count = min(_POOLS_AT_ONCE, number - first)
        rows = np.arange(first, first + count + sizes[-1] - 1) % number
        before = np.zeros((len(rows) + 1, int(np.count_nonzero(used))))
        for place, row in enumerate(rows):
            inside = slice(cells.indptr[row], cells.indptr[row + 1])
            known = column[inside] >= 0
            before[place + 1, column[inside][known]] = ratios[inside][known]
        np.cumsum(before, axis=0, out=before)
        medians[:, first : first + count] = run_medians(before, sizes, count)
    return dict(zip(sizes.tolist(), medians, strict=True))


def _solve(medians: dict[int, np.ndarray]) -> np.ndarray:
    """Return the factors whose sums over pools are nearest to the medians, shape (n,)."""
    number = len(next(iter(medians.values())))
    normal = np.full(number // 2 + 1, _LOW_WEIGHT, dtype=np.float64)
    right = np.fft.rfft(np.full(number, _LOW_WEIGHT))
    for size, median in medians.items():
        member = np.zeros(number)
        member[-np.arange(size) % number] = 1.0  # the pools that a cell is in begin before it
        pool = np.fft.rfft(member)
        normal += np.abs(pool) ** 2
        right += np.conj(pool) * np.fft.rfft(median)
    return np.fft.irfft(right / normal, number)


def _cleaned(factors: np.ndarray, num_genes: np.ndarray) -> np.ndarray:
    """Return the factors with those that are not positive replaced by what the number of expressed genes says."""
    good = factors > 0
    if good.all():
        return factors
    slope, bend = _fit_saturation(factors[good], num_genes[good])
    failed = num_genes[~good]
    left = slope - bend * failed
    highest = factors[good].max()
    replaced = np.divide(failed, left, out=np.full(len(failed), highest), where=left > 0)
    cleaned = factors.copy()
    cleaned[~good] = np.clip(replaced, factors[good].min(), highest)
    return cleaned


def _fit_saturation(factors: np.ndarray, num_genes: np.ndarray) -> tuple[float, float]:
    """Return a and b of the curve a*f / (1 + b*f) through the number of expressed genes at each factor."""
    from scipy.optimize import least_squares

    weights = np.ones(len(factors))
    logs = np.log([max(num_genes.mean() / factors.mean(), 1e-8), 1.0])

    def misfit(logs: np.ndarray) -> np.ndarray:
        slope, bend = np.exp(logs)
        return np.asarray(np.sqrt(weights) * (slope * factors / (1 + bend * factors) - num_genes))

    for _ in range(4):
        logs = least_squares(misfit, logs, bounds=(-30, 30)).x
        slope, bend = np.exp(logs)
        away = np.abs(slope * factors / (1 + bend * factors) - num_genes)
        weights = (1 - np.minimum(away / max(3 * np.median(away), 1e-8), 1) ** 3) ** 3
    return float(slope), float(bend)
