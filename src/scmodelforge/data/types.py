"""The types that meet at each hop of the data flow. Nothing here imports torch.

==============  ==========================================================================
``CellBlock``   rows of an expression matrix, sparse, as they come from a source
``TokenBlock``  the same cells as ragged token arrays
``Batch``       right-padded tensors of the cells of one forward pass, made by an objective
==============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

import numpy as np

from scmodelforge.data._kernels import copy_rows, row_sums, take_rows

if TYPE_CHECKING:
    import torch

__all__ = [
    "Batch",
    "BlockEncoder",
    "BoundEncoder",
    "CellBlock",
    "CellSource",
    "EmbeddingSpec",
    "Measured",
    "Panel",
    "RowRange",
    "TokenBlock",
]


@dataclass(frozen=True, slots=True)
class Panel:
    """The genes of one file, in the file's column order. Blocks of one file share one panel object.

    Attributes
    ----------
    gene_ids
        Gene identifiers as the file has them, shape (G,), dtype object (str).
    name
        The file's name, for messages.
    """

    gene_ids: np.ndarray
    name: str


@dataclass(frozen=True, slots=True)
class RowRange:
    """A contiguous range of rows of one file of a source: rows ``start`` to ``stop`` (exclusive) of file ``file``."""

    file: int
    start: int
    stop: int


@dataclass(slots=True)
class CellBlock:
    """Cells as sparse rows (CSR) over the genes of one panel.

    Attributes
    ----------
    data
        Expression values, shape (nnz,), float32. Explicit zeros may occur.
    indices
        Column of each value, shape (nnz,), integer.
    indptr
        Start of each row in ``data``, shape (n + 1,), int64, beginning with 0.
    panel
        The genes of the columns.
    positions
        Position of each cell in the whole source (all files one after another), shape (n,), int64.
    obs
        Codes of the asked-for obs columns, each shape (n,), int32, -1 where missing. The categories are the source's.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    panel: Panel
    positions: np.ndarray
    obs: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def totals(self) -> np.ndarray:
        """Return the sum of each row, shape (n,), float64."""
        return row_sums(self.data, self.indptr)

    def select(self, rows: np.ndarray) -> CellBlock:
        """Return the given rows (indices into this block) in the given order, as a new block."""
        indptr = _offsets(np.diff(self.indptr)[rows])
        data, indices = (take_rows(values, self.indptr, rows, indptr) for values in (self.data, self.indices))
        obs = {name: codes[rows] for name, codes in self.obs.items()}
        return CellBlock(data, indices, indptr, self.panel, self.positions[rows], obs)

    @staticmethod
    def concatenate(blocks: Sequence[CellBlock]) -> CellBlock:
        """Return the cells of some blocks of one panel in one block, in order. The list may not be empty."""
        return CellBlock(
            data=np.concatenate([block.data for block in blocks]),
            indices=np.concatenate([block.indices for block in blocks]),
            indptr=_offsets(np.concatenate([np.diff(block.indptr) for block in blocks])),
            panel=blocks[0].panel,
            positions=np.concatenate([block.positions for block in blocks]),
            obs={name: np.concatenate([block.obs[name] for block in blocks]) for name in blocks[0].obs},
        )


@dataclass(slots=True)
class Measured:
    """What is known of the genes that are not among a cell's tokens: a gene without a token need not be a zero.

    Attributes
    ----------
    panels
        Tokens of the genes each file measures, each ascending. Blocks of one file share the array.
    panel_index
        Which of ``panels`` is each cell's, shape (n,), int64.
    cut_offsets, cut_ids
        Tokens of the genes a cell expresses but that had no room in its sequence, ragged: cell ``i`` owns
        ``cut_ids[cut_offsets[i]:cut_offsets[i + 1]]``.
    """

    panels: tuple[np.ndarray, ...]
    panel_index: np.ndarray
    cut_offsets: np.ndarray
    cut_ids: np.ndarray

    def select(self, rows: np.ndarray) -> Measured:
        """Return what is known of the given cells, in the given order."""
        offsets = _offsets(np.diff(self.cut_offsets)[rows])
        cut_ids = take_rows(self.cut_ids, self.cut_offsets, rows, offsets)
        return Measured(self.panels, self.panel_index[rows], offsets, cut_ids)

    def part(self, start: int, stop: int) -> Measured:
        """Return what is known of a range of cells, sharing memory."""
        offsets = self.cut_offsets[start : stop + 1]
        cut_ids = self.cut_ids[int(offsets[0]) : int(offsets[-1])]
        return Measured(self.panels, self.panel_index[start:stop], offsets - offsets[0], cut_ids)

    @staticmethod
    def gather(parts: Sequence[Measured], part_of: np.ndarray, rows: np.ndarray) -> Measured:
        """Return what is known of cells of several parts: for each its part and its row there, shape (n,), int64."""
        panels, renumbered = _merged_panels(parts)
        panel_index, places, cut_offsets = np.empty(len(rows), dtype=np.int64), [], np.zeros(len(rows) + 1, np.int64)
        for number, (part, new) in enumerate(zip(parts, renumbered, strict=True)):
            here = np.flatnonzero(part_of == number)
            panel_index[here] = new[part.panel_index[rows[here]]]
            cut_offsets[here + 1] = np.diff(part.cut_offsets)[rows[here]]
            places.append(here)
        np.cumsum(cut_offsets, out=cut_offsets)
        cut_ids = np.empty(cut_offsets[-1], dtype=parts[0].cut_ids.dtype)
        for part, here in zip(parts, places, strict=True) if len(cut_ids) else ():
            starts = part.cut_offsets[rows[here]]
            copy_rows(part.cut_ids, starts, cut_offsets[here + 1] - cut_offsets[here], cut_offsets[here], cut_ids)
        return Measured(panels, panel_index, cut_offsets, cut_ids)

    @staticmethod
    def concatenate(parts: Sequence[Measured]) -> Measured:
        """Return what is known of the cells of all parts, in order. The list may not be empty."""
        panels, renumbered = _merged_panels(parts)
        return Measured(
            panels=panels,
            panel_index=np.concatenate([new[part.panel_index] for new, part in zip(renumbered, parts, strict=True)]),
            cut_offsets=_offsets(np.concatenate([np.diff(part.cut_offsets) for part in parts])),
            cut_ids=np.concatenate([part.cut_ids for part in parts]),
        )


@dataclass(slots=True)
class TokenBlock:
    """Cells as ragged token sequences: cell ``i`` owns ``[offsets[i]:offsets[i + 1]]`` of every token array.

    Attributes
    ----------
    offsets
        Shape (n + 1,), int64, beginning with 0.
    ids
        Token ids, shape (T,), int32.
    values
        Expression value of each token, shape (T,), float32; 0 at special tokens.
    bin_ids
        Expression bin of each token, shape (T,), int32, or ``None`` for tokenizers without bins.
    measured
        What is known of genes that are not among the tokens; all encoders of the package give it.
    cell_index
        Position of each cell in the source, shape (n,), int64.
    keys
        Base of each cell's random draws, shape (n,), uint64 (see :mod:`scmodelforge.data.draws`).
    """

    offsets: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    cell_index: np.ndarray
    keys: np.ndarray
    bin_ids: np.ndarray | None = None
    measured: Measured | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each cell, shape (n,), int64."""
        return np.diff(self.offsets)

    def select(self, rows: np.ndarray) -> TokenBlock:
        """Return the given cells (indices into this block) in the given order, as a new block."""
        offsets = _offsets(np.diff(self.offsets)[rows])
        ids, values = (take_rows(array, self.offsets, rows, offsets) for array in (self.ids, self.values))
        bins = None if self.bin_ids is None else take_rows(self.bin_ids, self.offsets, rows, offsets)
        measured = None if self.measured is None else self.measured.select(rows)
        return TokenBlock(offsets, ids, values, self.cell_index[rows], self.keys[rows], bins, measured)

    def part(self, start: int, stop: int) -> TokenBlock:
        """Return a range of cells that shares memory with the block."""
        offsets = self.offsets[start : stop + 1]
        inside, cells = slice(int(offsets[0]), int(offsets[-1])), slice(start, stop)
        return TokenBlock(
            offsets=offsets - offsets[0],
            ids=self.ids[inside],
            values=self.values[inside],
            cell_index=self.cell_index[cells],
            keys=self.keys[cells],
            bin_ids=None if self.bin_ids is None else self.bin_ids[inside],
            measured=None if self.measured is None else self.measured.part(start, stop),
        )

    @staticmethod
    def gather(blocks: Sequence[TokenBlock], block_of: np.ndarray, rows: np.ndarray) -> TokenBlock:
        """Return cells of several blocks in one; nothing is shared with them.

        Parameters
        ----------
        blocks
            The blocks, at least one.
        block_of, rows
            Of each wanted cell the number of its block and its row there, shape (n,), int64.
        """
        places = [np.flatnonzero(block_of == number) for number in range(len(blocks))]
        starts, lengths = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
        cell_index, keys = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.uint64)
        for block, here in zip(blocks, places, strict=True):
            wanted = rows[here]
            starts[here], lengths[here] = block.offsets[wanted], block.offsets[wanted + 1] - block.offsets[wanted]
            cell_index[here], keys[here] = block.cell_index[wanted], block.keys[wanted]
        offsets = _offsets(lengths)

        def together(arrays: list[np.ndarray]) -> np.ndarray:
            out = np.empty(int(offsets[-1]), dtype=arrays[0].dtype)
            for values, here in zip(arrays, places, strict=True):
                copy_rows(values, starts[here], lengths[here], offsets[here], out)
            return out

        measured = [block.measured for block in blocks if block.measured is not None]
        bins = [block.bin_ids for block in blocks if block.bin_ids is not None]
        return TokenBlock(
            offsets=offsets,
            ids=together([block.ids for block in blocks]),
            values=together([block.values for block in blocks]),
            cell_index=cell_index,
            keys=keys,
            bin_ids=together(bins) if bins else None,
            measured=Measured.gather(measured, block_of, rows) if measured else None,
        )

    @staticmethod
    def concatenate(blocks: Sequence[TokenBlock]) -> TokenBlock:
        """Return the cells of all blocks in one block, in order. The list may not be empty."""
        has_bins, has_measured = blocks[0].bin_ids is not None, blocks[0].measured is not None
        parts = [block.measured for block in blocks if block.measured is not None]
        return TokenBlock(
            offsets=_offsets(np.concatenate([block.lengths for block in blocks])),
            ids=np.concatenate([block.ids for block in blocks]),
            values=np.concatenate([block.values for block in blocks]),
            cell_index=np.concatenate([block.cell_index for block in blocks]),
            keys=np.concatenate([block.keys for block in blocks]),
            bin_ids=np.concatenate([b.bin_ids for b in blocks if b.bin_ids is not None]) if has_bins else None,
            measured=Measured.concatenate(parts) if has_measured else None,
        )


class BoundEncoder(Protocol):
    """An encoder that knows the genes of the columns it will see."""

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Tokenise all cells of a block.

        Parameters
        ----------
        block
            Cells over the panel this encoder was bound to.
        keys
            Base of each cell's random draws, shape (n,), uint64. Draws depend on nothing else.

        Returns
        -------
        The cells in the same order; ``cell_index`` and ``keys`` are ``block.positions`` and ``keys``. A cell with no
        known gene has its special tokens only.
        """
        ...


@runtime_checkable
class BlockEncoder(Protocol):
    """What the loader needs of a tokenizer. Implementations are safe to use from several threads."""

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of this panel."""
        ...


class CellSource(Protocol):
    """Cells of one or several files, readable by row ranges, never whole."""

    @property
    def panels(self) -> list[Panel]:
        """The genes of each file."""
        ...

    @property
    def file_sizes(self) -> list[int]:
        """Number of cells of each file. Positions count through the files in this order."""
        ...

    @property
    def obs_columns(self) -> list[str]:
        """Names of the obs columns that every file has."""
        ...

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return an obs column of all cells as codes, shape (N,), int32, -1 where missing, and its categories.

        Raises
        ------
        DataError
            If a file has no such column; the message lists those there are.
        """
        ...

    def obs_names(self) -> Iterator[str]:
        """Yield the name of each cell, in order of position."""
        ...

    def read(self, rows: RowRange) -> CellBlock:
        """Return the cells of a row range as raw values. Safe to call from several threads."""
        ...

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return what identifies the data: for each file its name, cells, genes, size in bytes and sha256."""
        ...

    def close(self) -> None:
        """Let go of open files. Reading opens them again."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """What a tokenizer brings for a model's embedding layer; the two meet in the workflows only.

    Attributes
    ----------
    vectors
        Vector of each token, shape (V, D), float32, where D need not be the model's width.
    known
        Which tokens have a vector, shape (V,), bool; the others are learned.
    trainable
        Whether the given vectors are trained along.
    """

    vectors: np.ndarray
    known: np.ndarray
    trainable: bool = False


class Batch(TypedDict, total=False):
    """Keys of a batch. Shapes: B cells, S tokens (the longest of the batch); tensors are right-padded.

    Models accept all keys and ignore those they do not use. The last group stays on the host.
    """

    input_ids: torch.Tensor  # (B, S) int64
    attention_mask: torch.Tensor  # (B, S) 1 for real tokens, 0 for padding
    values: torch.Tensor  # (B, S) float32, 0 where hidden
    labels: torch.Tensor  # (B, S) int64, IGNORE_INDEX where not a target
    masked_positions: torch.Tensor  # (B, S) bool
    bin_ids: torch.Tensor  # (B, S) int64
    targets: torch.Tensor  # (B, S) float32: true values at masked positions, 0 elsewhere
    gene_ids: torch.Tensor  # (B, S) int64: the true gene at every position
    prefix_len: torch.Tensor  # (B,) int64: tokens at the beginning that see each other fully
    no_repeats: torch.Tensor  # () bool: a gene that was named cannot come again

    cell_index: np.ndarray  # (B,) int64 position of each cell in its source
    lengths: np.ndarray  # (B,) int64
    cu_seqlens: np.ndarray  # (B + 1,) int32
    pack_index: np.ndarray  # (T,) int64, flat index b * S + s of each real token
    target_index: np.ndarray  # (M,) int64, flat index of each labelled position
    num_targets: dict[str, int]  # targets of each loss term
    floors: dict[str, float]  # lowest mean a loss term can have on these targets, where it is known


def _offsets(lengths: np.ndarray) -> np.ndarray:
    """Return where each of some rows begins and the last ends, shape (n + 1,), int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _merged_panels(parts: Sequence[Measured]) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """Return the panels of all parts, each once, and for each part the new numbers of its own."""
    panels = {id(panel): panel for part in parts for panel in part.panels}
    place = {identity: number for number, identity in enumerate(panels)}
    return tuple(panels.values()), [np.array([place[id(panel)] for panel in part.panels], np.int64) for part in parts]
