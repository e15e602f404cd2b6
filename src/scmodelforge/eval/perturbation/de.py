"""Differential expression of conditions against their control: rank sums, and the t-test whose variance is too large.

Both are computed for all genes at once in dense blocks of a few genes; numbers are those of pdex 0.3 (Wilcoxon with
continuity and ties corrected, Benjamini-Hochberg over all genes) and of scanpy (``t-test_overestim_var``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge.data._compile import compiled
from scmodelforge.eval.perturbation.cells import Expression, dense_blocks, moments, remembered_of
from scmodelforge.eval.perturbation.conditions import Group

__all__ = ["FDR", "RankSums", "benjamini_hochberg", "overestimated_t", "rank_sums", "top_genes"]

_KEPT_VALUES = 2**27  # of controls in order; more are sorted again for each perturbation

FDR = 0.05
"""False discovery rate below which a gene is differentially expressed."""


@dataclass(frozen=True)
class RankSums:
    """Wilcoxon's test of each gene in a group against its control.

    Attributes
    ----------
    u
        Mann-Whitney U of the group's cells, shape (G,).
    p, fdr
        Two-sided p-value and false discovery rate, shape (G,).
    log2_fold
        log2 of the ratio of ``expm1`` of both mean logarithms, shape (G,): infinite where one of them is zero, zero
        where both are.
    """

    u: np.ndarray
    p: np.ndarray
    fdr: np.ndarray
    log2_fold: np.ndarray

    @property
    def is_significant(self) -> np.ndarray:
        """Whether a gene's rate is below :data:`FDR`, shape (G,)."""
        return self.fdr < FDR

    def ranked(self) -> np.ndarray:
        """Return the significant genes, those of the largest absolute fold change first; ties in order of genes."""
        genes = np.flatnonzero(self.is_significant)
        return genes[np.argsort(-np.abs(self.log2_fold[genes]), kind="stable")]


def rank_sums(cells: Expression, group: Group) -> RankSums:
    """Test every gene of a group against the control of the same cells; computed once."""
    return remembered_of(cells, "rank sums", group, lambda: _rank_sums(cells, group))


def overestimated_t(cells: Expression, group: Group) -> np.ndarray:
    """Return Welch's t of each gene with the control's variance taken for as uncertain as the group's, shape (G,).

    The control counts as if it had no more cells than the group (scanpy's ``t-test_overestim_var``, which GEARS
    chooses genes by). A gene without variance gets 0.
    """
    return remembered_of(cells, "t", group, lambda: _overestimated_t(cells, group))


def top_genes(scores: np.ndarray, num_genes: int) -> np.ndarray:
    """Return the genes with the largest absolute scores, largest first; ties in order of genes."""
    return np.argsort(-np.abs(scores), kind="stable")[:num_genes]


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return false discovery rates (Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x)."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty_like(scaled)
    found[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return found


def _rank_sums(cells: Expression, group: Group) -> RankSums:
    treated = cells.cells(group)
    sorted_control = remembered_of(cells, "sorted", group.control, lambda: _SortedGenes(cells, group.control))
    u, ties = sorted_control.compare(treated)
    num_treated, num_control = treated.shape[0], cells.size(group.control)
    p = _two_sided(u, ties, num_treated, num_control)
    fold = _log2_fold(cells.mean(group), cells.mean(group.control))
    return RankSums(u, p, benjamini_hochberg(p), fold)


def _two_sided(u: np.ndarray, ties: np.ndarray, num_treated: int, num_control: int) -> np.ndarray:
    """Return p by the normal approximation, corrected for ties and continuity; 1 where all values are the same."""
    from scipy.special import ndtr

    total = num_treated + num_control
    product = num_treated * num_control
    variance = product / 12 * ((total + 1) - ties / (total * (total - 1)))
    larger = np.maximum(u, product - u)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (larger - product / 2 - 0.5) / np.sqrt(variance)
    return np.where(variance > 0, np.clip(2 * ndtr(-z), 0.0, 1.0), 1.0)


def _log2_fold(mean: np.ndarray, control: np.ndarray) -> np.ndarray:
    ours, theirs = np.maximum(np.expm1(mean), 0), np.maximum(np.expm1(control), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((ours == 0) & (theirs == 0), 0.0, np.log2(ours / theirs))


def _overestimated_t(cells: Expression, group: Group) -> np.ndarray:
    ours, theirs = moments(cells, group), moments(cells, group.control)
    size = cells.size(group)
    error = np.sqrt((ours[1] + theirs[1]) / size)
    difference = ours[0] - theirs[0]
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


class _SortedGenes:
    """The control's values of each gene in order, and how often its values are tied."""

    def __init__(self, cells: Expression, control: Group) -> None:
        block: Any = cells.cells(control)
        self.block = block.tocsc() if sp.issparse(block) else block
        self.num_cells = block.shape[0]
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def compare(self, treated: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return U of some cells, and the sum of t^3 - t over the ties of both sides, shapes (G,)."""
        treated = treated.tocsc() if sp.issparse(treated) else treated
        u, ties = np.empty(treated.shape[1]), np.empty(treated.shape[1])
        compare = _count_below(treated.shape[0] * treated.shape[1]) or _compare
        for genes in dense_blocks(treated.shape[1], self.num_cells):
            values, own_ties = self._of(genes)
            compare(values, own_ties, _sorted_rows(treated, genes), u[genes], ties[genes])
        return u, ties

    def _of(self, genes: slice) -> tuple[np.ndarray, np.ndarray]:
        if genes.start in self._kept:
            return self._kept[genes.start]
        values = _sorted_rows(self.block, genes)
        found = values, _tie_sums(values)
        if self.block.shape[0] * self.block.shape[1] <= _KEPT_VALUES:
            self._kept[genes.start] = found
        return found


def _sorted_rows(block: Any, genes: slice) -> np.ndarray:
    """Return the values of each gene in order, shape (genes, n), float32."""
    part = np.ascontiguousarray(_dense(block, genes).T, dtype=np.float32)
    part.sort(axis=1)
    return part


def _dense(block: Any, genes: slice) -> np.ndarray:
    part = block[:, genes]
    return part.toarray() if sp.issparse(part) else np.asarray(part)


def _tie_sums(values: np.ndarray) -> np.ndarray:
    """Return the sum of t^3 - t over the tied values of each row of sorted values."""
    is_last = np.ones(values.shape, dtype=bool)
    is_last[:, :-1] = values[:, 1:] != values[:, :-1]
    ends = np.flatnonzero(is_last)  # the end of a row is one, so that no tie goes on into the next
    counts = np.diff(ends, prepend=-1).astype(np.float64)
    return np.bincount(ends // values.shape[1], weights=counts**3 - counts, minlength=len(values))


def _compare(control: np.ndarray, own_ties: np.ndarray, treated: np.ndarray, u: np.ndarray, ties: np.ndarray) -> None:
    """Do as :func:`_count_below` does compiled."""
    for gene, row in enumerate(treated):
        values, counts = np.unique(row, return_counts=True)
        low = np.searchsorted(control[gene], values, side="left")
        same = (np.searchsorted(control[gene], values, side="right") - low).astype(np.float64)
        u[gene] = (counts * (low + same / 2)).sum()
        both = same + counts
        ties[gene] = own_ties[gene] + ((both**3 - both) - (same**3 - same)).sum()


@compiled
def _count_below(control, own_ties, treated, u, ties):
    num_control, num_treated = control.shape[1], treated.shape[1]
    for gene in range(treated.shape[0]):
        below, total, tied, place = 0, 0.0, own_ties[gene], 0
        while place < num_treated:
            value = treated[gene, place]
            start = place
            while place < num_treated and treated[gene, place] == value:
                place += 1
            count = float(place - start)
            low, high = below, num_control
            while low < high:
                middle = (low + high) // 2
                if control[gene, middle] < value:
                    low = middle + 1
                else:
                    high = middle
            below, high = low, num_control
            while low < high:
                middle = (low + high) // 2
                if control[gene, middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            same = float(low - below)
            total += count * (below + same / 2)
            both = same + count
            tied += (both * both * both - both) - (same * same * same - same)
            below = low
        u[gene] = total
        ties[gene] = tied
