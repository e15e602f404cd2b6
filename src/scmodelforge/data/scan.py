"""One pass over all cells before any work starts: every value checked, empty cells found, visitors shown each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.inspect import describe_values, is_whole
from scmodelforge.data.types import CellBlock, CellSource, RowRange
from scmodelforge.data.vocab import GeneVocab

__all__ = ["BlockVisitor", "ScanReport", "scan"]

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


def scan(
    source: CellSource,
    vocab: GeneVocab,
    *,
    expects: Literal["counts", "any"],
    block_size: int = 1024,
    visitors: Sequence[BlockVisitor] = (),
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
        Shown each block in order of position, after it was checked.

    Raises
    ------
    DataError
        For the first value that is NaN or infinite, or negative or not whole where counts are needed, with its cell
        and gene; if a file has no cells, or if all cells are empty.
    """
    report = ScanReport(sum(source.file_sizes), np.zeros(0, dtype=np.int64), [], 0)
    for file in range(len(source.panels)):
        _scan_file(report, source, vocab, file, expects=expects, block_size=block_size, visitors=visitors)
    if len(report.empty) == report.num_cells:
        msg = (
            f"all {report.num_cells:,} cells are empty: none has a positive value in a gene of gene_vocab "
            f"'{vocab.name}' ({sum(report.known_genes):,} genes of the files are in it); check data.gene_vocab and "
            "data.layer."
        )
        raise DataError(msg)
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
        _check_values(source, block, expects, file_start=first)
        report.values_checked += len(block.data)
        empty.append(block.positions[_num_expressed(block, is_known) == 0])
        for visitor in visitors:
            visitor.update(block)
    report.empty = np.concatenate(empty)
    num_empty = sum(map(len, empty[1:]))
    if num_empty > _FEW_EMPTY * num_cells:
        report.warnings.append(
            f"{panel.name}: {num_empty:,} of {num_cells:,} cells express none of its {report.known_genes[-1]:,} genes "
            f"that are in gene_vocab '{vocab.name}'; check data.gene_vocab and data.gene_id_column."
        )


def _num_expressed(block: CellBlock, is_known: np.ndarray) -> np.ndarray:
    """Return the number of positive values in known genes of each cell, shape (n,)."""
    hits: np.ndarray = np.concatenate([[0], np.cumsum((block.data > 0) & is_known[block.indices])])
    return np.asarray(hits[block.indptr[1:]] - hits[block.indptr[:-1]])


def _check_values(source: CellSource, block: CellBlock, expects: str, *, file_start: int) -> None:
    data = block.data
    if not np.isfinite(data).all():
        index = int(np.flatnonzero(~np.isfinite(data))[0])
        value = "NaN" if np.isnan(data[index]) else "an infinite value"
        advice = "finite numbers are needed; correct the matrix, or name another one in data.layer"
    elif expects == "any":
        return
    elif (data < 0).any():
        index = int(np.flatnonzero(data < 0)[0])
        value = f"a negative value ({data[index]:.6g})"
        advice = f"counts are needed{_instead(block)}"
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
        "data.preprocessing normalises them"
    )
