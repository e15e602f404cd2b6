"""The types that meet at each hop of the data flow. Nothing here imports torch.

==============  ==========================================================================
``CellBlock``   rows of an expression matrix, sparse, as they come from a source
``TokenBlock``  the same cells as ragged token arrays
``Batch``       right-padded tensors of the cells of one forward pass, made by an objective
==============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from scmodelforge.data._kernels import copy_rows, row_sums, take_rows
from scmodelforge.data.measured import Measured, row_offsets

if TYPE_CHECKING:
    import torch

__all__ = [
    "Batch",
    "CellBlock",
    "EmbeddingSpec",
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
        indptr = row_offsets(np.diff(self.indptr)[rows])
        data, indices = (take_rows(values, self.indptr, rows, indptr) for values in (self.data, self.indices))
        obs = {name: codes[rows] for name, codes in self.obs.items()}
        return CellBlock(data, indices, indptr, self.panel, self.positions[rows], obs)

    @staticmethod
    def concatenate(blocks: Sequence[CellBlock]) -> CellBlock:
        """Return the cells of some blocks of one panel in one block, in order. The list may not be empty."""
        return CellBlock(
            data=np.concatenate([block.data for block in blocks]),
            indices=np.concatenate([block.indices for block in blocks]),
            indptr=row_offsets(np.concatenate([np.diff(block.indptr) for block in blocks])),
            panel=blocks[0].panel,
            positions=np.concatenate([block.positions for block in blocks]),
            obs={name: np.concatenate([block.obs[name] for block in blocks]) for name in blocks[0].obs},
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
        Expression value of each token, shape (T,), float32; at special tokens what the tokenizer has for them.
    bin_ids
        Expression bin of each token, shape (T,), int32, or ``None`` for tokenizers without bins.
    measured
        What is known of genes that are not among the tokens; all encoders of the package give it.
    cell_index
        Position of each cell in the source, shape (n,), int64.
    keys
        Base of each cell's random draws, shape (n,), uint64 (see :mod:`scmodelforge.data.draws`).
    pad_value, mask_value
        Value that fills up shorter cells of a batch, and value shown where one is hidden.
    is_set
        Whether the order of a cell's tokens is that of their ids, so that the place of a hidden one would tell which
        gene it is.
    """

    offsets: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    cell_index: np.ndarray
    keys: np.ndarray
    bin_ids: np.ndarray | None = None
    measured: Measured | None = None
    pad_value: float = 0.0
    mask_value: float = 0.0
    is_set: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each cell, shape (n,), int64."""
        return np.diff(self.offsets)

    def select(self, rows: np.ndarray) -> TokenBlock:
        """Return the given cells (indices into this block) in the given order, as a new block."""
        offsets = row_offsets(np.diff(self.offsets)[rows])
        ids, values = (take_rows(array, self.offsets, rows, offsets) for array in (self.ids, self.values))
        bins = None if self.bin_ids is None else take_rows(self.bin_ids, self.offsets, rows, offsets)
        measured = None if self.measured is None else self.measured.select(rows)
        cell_index, keys = self.cell_index[rows], self.keys[rows]
        shown = self.pad_value, self.mask_value, self.is_set
        return TokenBlock(offsets, ids, values, cell_index, keys, bins, measured, *shown)

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
            pad_value=self.pad_value,
            mask_value=self.mask_value,
            is_set=self.is_set,
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
        offsets = row_offsets(lengths)

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
            pad_value=blocks[0].pad_value,
            mask_value=blocks[0].mask_value,
            is_set=blocks[0].is_set,
        )

    @staticmethod
    def concatenate(blocks: Sequence[TokenBlock]) -> TokenBlock:
        """Return the cells of all blocks in one block, in order. The list may not be empty."""
        has_bins, has_measured = blocks[0].bin_ids is not None, blocks[0].measured is not None
        parts = [block.measured for block in blocks if block.measured is not None]
        return TokenBlock(
            offsets=row_offsets(np.concatenate([block.lengths for block in blocks])),
            ids=np.concatenate([block.ids for block in blocks]),
            values=np.concatenate([block.values for block in blocks]),
            cell_index=np.concatenate([block.cell_index for block in blocks]),
            keys=np.concatenate([block.keys for block in blocks]),
            bin_ids=np.concatenate([b.bin_ids for b in blocks if b.bin_ids is not None]) if has_bins else None,
            measured=Measured.concatenate(parts) if has_measured else None,
            pad_value=blocks[0].pad_value,
            mask_value=blocks[0].mask_value,
            is_set=blocks[0].is_set,
        )


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """What a tokenizer brings for a model's embedding layer and attention; the two meet in the workflows only.

    Attributes
    ----------
    vectors
        Vector of each token, shape (V, D), float32, where D need not be the model's width; ``None`` brings none.
    known
        Which tokens have a vector, shape (V,), bool; the others are learned.
    trainable
        Whether the given vectors are trained along.
    values
        What becomes of expression values: projected (``linear``), a mixture of learned bins each (``auto_bins``), or
        log(1 + value) added to the attention that the token gets (``attention_bias``). ``None`` leaves the model its
        own way.
    num_auto_bins
        Number of bins of ``auto_bins``.
    """

    vectors: np.ndarray | None = None
    known: np.ndarray | None = None
    trainable: bool = False
    values: Literal["linear", "auto_bins", "attention_bias"] | None = None
    num_auto_bins: int = 100


class Batch(TypedDict, total=False):
    """Keys of a batch. Shapes: B cells, S tokens (the longest of the batch); tensors are right-padded.

    Models accept all keys and ignore those they do not use. The last group stays on the host.
    """

    input_ids: torch.Tensor  # (B, S) int64
    attention_mask: torch.Tensor  # (B, S) 1 for real tokens, 0 for padding
    values: torch.Tensor  # (B, S) float32, where hidden the tokenizer's mask_value, 0 unless it says otherwise
    labels: torch.Tensor  # (B, S) int64, IGNORE_INDEX where not a target
    masked_positions: torch.Tensor  # (B, S) bool
    bin_ids: torch.Tensor  # (B, S) int64
    targets: torch.Tensor  # (B, S) float32: true values at masked positions, 0 elsewhere
    gene_ids: torch.Tensor  # (B, S) int64: the true gene at every position
    loss_weights: torch.Tensor  # (B, S) float32: what each target counts in a mean over cells, 0 elsewhere
    prefix_len: torch.Tensor  # (B,) int64: tokens at the beginning that see each other fully
    no_repeats: torch.Tensor  # () bool: a gene that was named cannot come again
    cell_types: torch.Tensor  # (B,) int64 label of each cell, IGNORE_INDEX where it has none
    batch_labels: torch.Tensor  # (B,) int64 batch of each cell, likewise
    cell_values: torch.Tensor  # (B, T) float32 numbers of each cell, standardised, NaN where unknown
    gene_classes: torch.Tensor  # (B, S) int64: class of the gene at each position, IGNORE_INDEX where not a target
    cell_embeddings: torch.Tensor  # (B, H) float32: what a frozen backbone gives, which is then not run
    cell_index: np.ndarray  # (B,) int64 position of each cell in its source
    lengths: np.ndarray  # (B,) int64
    cu_seqlens: np.ndarray  # (B + 1,) int32
    pack_index: np.ndarray  # (T,) int64, flat index b * S + s of each real token
    target_index: np.ndarray  # (M,) int64, flat index of each labelled position
    num_targets: dict[str, int]  # targets of each loss term
    floors: dict[str, float]  # lowest mean a loss term can have on these targets, where it is known
