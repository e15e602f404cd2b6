"""One pass over all cells before any work starts: every value checked, empty cells found, visitors shown each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.filters import CellLimits
from scmodelforge.data.inspect import describe_values, is_whole
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import CellBlock, RowRange
from scmodelforge.data.vocab import GeneVocab

__all__ = ["BlockVisitor", "ScanReport", "check_values", "scan"]

#: Share of a file's cells that may be empty without a warning.
_FEW_EMPTY = 0.1


class BlockVisitor(Protocol):
    """What may learn from the cells as the scan passes over them."""

    def update(self, block: CellBlock) -> None:
        """Take a block of checked cells, of which it picks those it is meant for."""
        ...


@dataclass(slots=True)
class ScanReport:
    """What a scan found.

    Attributes
    ----------
    num_cells
        Cells of the source.
    empty
        Positions of the cells without a positive value in a gene of the vocabulary, ascending, int64.
    dropped
        Positions of the cells that break a limit, ascending, int64; none of them is among the empty ones.
    broken
        Number, in the limits, of the limit that each dropped cell breaks, int64.
    drop_reasons
        How many cells break each limit, in words.
    known_genes
        Genes of each file that are in the vocabulary.
    values_checked
        Stored values that were looked at.
    warnings
        Lines for the user.
    """

    num_cells: int
    empty: np.ndarray
    known_genes: list[int]
    values_checked: int
    warnings: list[str] = field(default_factory=list)
    dropped: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    broken: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    drop_reasons: str = ""


def scan(
    source: CellSource,
    vocab: GeneVocab,
    *,
    expects: Literal["counts", "any"],
    block_size: int = 1024,
    visitors: Sequence[BlockVisitor] = (),
    limits: CellLimits | None = None,
) -> ScanReport:
    """Read all cells once, a block at a time.

    Parameters
    ----------
    source
        The cells.
    vocab
        The genes that count for a cell to be empty or not.
    expects
        ``counts`` takes non-negative whole numbers only, ``any`` all finite numbers.
    block_size
        Cells in memory at a time.
    visitors
        Shown each block in order of position, after it was checked, without the cells that break a limit.
    limits
        Cells that break one of these are dropped; ``None`` drops none.

    Raises
    ------
    DataError
        For the first value that is NaN or infinite, or negative or not whole where counts are needed, with its cell
        and gene; if a file has no cells, or if all cells are empty or dropped.
    """
    report = ScanReport(sum(source.file_sizes), np.zeros(0, dtype=np.int64), [], 0)
    sieve = None if limits is None or not limits.limits else _Sieve(limits)
    for file in range(len(source.panels)):
        _scan_file(report, source, vocab, file, expects=expects, block_size=block_size, visitors=visitors, sieve=sieve)
    if sieve is not None:
        report.dropped, report.broken, report.drop_reasons = sieve.dropped(), sieve.broken(), sieve.reasons()
    if len(report.empty) + len(report.dropped) == report.num_cells:
        raise DataError(_none_left(report, vocab))
    return report


def _scan_file(
    report: ScanReport,
    source: CellSource,
    vocab: GeneVocab,
    file: int,
    *,
    expects: str,
    block_size: int,
    visitors: Sequence[BlockVisitor],
    sieve: _Sieve | None,
) -> None:
    panel, num_cells, first = source.panels[file], source.file_sizes[file], sum(source.file_sizes[:file])
    if not num_cells:
        msg = f"{panel.name} has no cells; leave it out of the data."
        raise DataError(msg)
    is_known = vocab.map_panel(panel) >= 0
    report.known_genes.append(int(np.count_nonzero(is_known)))
    empty = [report.empty]
    for start in range(0, num_cells, block_size):
        block = source.read(RowRange(file, start, min(start + block_size, num_cells)))
        check_values(source, block, expects, file_start=first)
        report.values_checked += len(block.data)
        if sieve is not None:
            block = sieve.keep(block)
        if not len(block):
            continue
        empty.append(block.positions[_num_expressed(block, is_known) == 0])
        for visitor in visitors:
            visitor.update(block)
    report.empty = np.concatenate(empty)
    num_empty = sum(map(len, empty[1:]))
    if num_empty > _FEW_EMPTY * num_cells:
        what = "" if vocab.is_fixed else "data.gene_vocab and "
        report.warnings.append(
            f"{panel.name}: {num_empty:,} of {num_cells:,} cells express none of its {report.known_genes[-1]:,} genes "
            f"that are in gene_vocab '{vocab.name}'; check {what}data.gene_id_column."
        )


class _Sieve:
    """Takes cells that break a limit out of blocks and remembers which."""

    def __init__(self, limits: CellLimits) -> None:
        self._limits = limits
        self._positions: list[np.ndarray] = []
        self._broken: list[np.ndarray] = []

    def keep(self, block: CellBlock) -> CellBlock:
        """Return the block without them."""
        broken = self._limits.broken(block)
        is_dropped = broken >= 0
        if not is_dropped.any():
            return block
        self._positions.append(block.positions[is_dropped])
        self._broken.append(broken[is_dropped])
        return block.select(np.flatnonzero(~is_dropped))

    def dropped(self) -> np.ndarray:
        """Return the positions of the cells taken out, ascending, int64."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._positions])

    def broken(self) -> np.ndarray:
        """Return the number of the limit that each of them breaks, int64."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._broken])

    def reasons(self) -> str:
        """Return how many broke which limit, in words."""
        return self._limits.describe(self.broken())


def _none_left(report: ScanReport, vocab: GeneVocab) -> str:
    """Return why no cell is left."""
    advice = (
        f"none has a positive value in a gene of gene_vocab '{vocab.name}' ({sum(report.known_genes):,} genes of the "
        f"files are in it); check {'' if vocab.is_fixed else 'data.gene_vocab and '}data.layer."
    )
    if not len(report.dropped):
        return f"all {report.num_cells:,} cells are empty: {advice}"
    if not len(report.empty):
        return (
            f"data.preprocessing leaves out all {report.num_cells:,} cells: {report.drop_reasons}; "
            "loosen these limits, or check data.layer."
        )
    return (
        f"none of {report.num_cells:,} cells is left: data.preprocessing leaves out {len(report.dropped):,} "
        f"({report.drop_reasons}), the others are empty: {advice}"
    )


def _num_expressed(block: CellBlock, is_known: np.ndarray) -> np.ndarray:
    """Return the number of positive values in known genes of each cell, shape (n,)."""
    hits: np.ndarray = np.concatenate([[0], np.cumsum((block.data > 0) & is_known[block.indices])])
    return np.asarray(hits[block.indptr[1:]] - hits[block.indptr[:-1]])


def check_values(source: CellSource, block: CellBlock, expects: str, *, file_start: int) -> None:
    """Raise a :class:`DataError` for the first value of a block that is not of the kind expected.

    Parameters
    ----------
    source
        Where the block is from.
    block
        The cells.
    expects
        ``counts`` or ``any``, as of :func:`scan`.
    file_start
        Position of the first cell of the block's file.
    """
    data = block.data
    if not np.isfinite(data).all():
        index = int(np.flatnonzero(~np.isfinite(data))[0])
        value = "NaN" if np.isnan(data[index]) else "an infinite value"
        advice = "finite numbers are needed; correct the matrix, or name another one in data.layer"
    elif (data < 0).any():
        index = int(np.flatnonzero(data < 0)[0])
        value = f"a negative value ({data[index]:.6g})"
        advice = f"{'counts' if expects == 'counts' else 'values of 0 and above'} are needed{_instead(block)}"
    elif expects == "any":
        return
    elif not is_whole(data).all():
        index = int(np.flatnonzero(~is_whole(data))[0])
        value = f"{data[index]:.6g}, not a whole number,"
        advice = f"counts are needed{_instead(block)}"
    else:
        return
    row = int(np.searchsorted(block.indptr, index, side="right")) - 1
    position = int(block.positions[row])
    cell = next(islice(source.obs_names(), position, None))
    gene = block.panel.gene_ids[block.indices[index]]
    msg = f"{block.panel.name}: cell '{cell}' (row {position - file_start:,}) has {value} for gene {gene}; {advice}."
    raise DataError(msg)


def _instead(block: CellBlock) -> str:
    """Return the part of a message that says what the values look like and how to get at counts."""
    seen = describe_values(block.data, block.indptr)
    return (
        f", and the values look {seen.kind} ({seen.evidence}). Name the matrix that holds counts in data.layer; "
        "preprocessing normalises them"
    )
