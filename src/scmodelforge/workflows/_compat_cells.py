"""The cells of a file as Geneformer's own code takes them: values as stored, depths and choice of cells from obs."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.gather import read_rows
from scmodelforge.data.sources._matrix import DenseMatrix
from scmodelforge.data.sources.local import LocalSource
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.tokenizers.rank_value import RankValueTokenizer

__all__ = ["CompatCells"]


class CompatCells:
    """Tokens of the cells that the official code keeps.

    Parameters
    ----------
    source
        One file.
    tokenizer
        The tokenizer, with ``compat``.

    Attributes
    ----------
    is_known
        Which columns have a token, shape (G,), bool.
    passes
        Which cells obs ``filter_pass`` lets pass: those where it is 1, or all if there is none; shape (N,), bool.
    notes
        Lines for the user on what is unusual.

    Raises
    ------
    DataError
        If obs has no ``n_counts``, or no gene is found.
    """

    def __init__(self, source: LocalSource, tokenizer: RankValueTokenizer) -> None:
        self._source, self._stored, self._panel = source, source.stored(0), source.panels[0]
        self._depths = self._numbers("n_counts")
        self.passes = self._passing()
        self._encoder = tokenizer.bind_compat(self._panel)
        self.is_known = self._encoder.columns.slots >= 0
        self._is_dense = isinstance(self._stored.matrix, DenseMatrix)
        if not self.is_known.any():
            msg = (
                f"{self._panel.name}: none of its {len(self.is_known):,} gene ids ({self._panel.gene_ids[0]}, ...) is "
                "found as the official code looks for them, which takes no id with a version; name another var column "
                "with --gene-id-column, or leave --compat out."
            )
            raise DataError(msg)
        self.notes = self._unusual()

    def tokens(self, start: int, stop: int) -> tuple[CellBlock, TokenBlock]:
        """Return the cells of a range that pass, and their tokens; each has some if it has any gene."""
        block = self._read(start, stop)
        tokens = self._encoder.encode_stored(
            block,
            cell_keys(0, block.positions),
            depths=self._depths[start:stop],
            is_dense=self._is_dense,
        )
        return block, tokens.select(np.flatnonzero(self.passes[start:stop]))

    def _read(self, start: int, stop: int) -> CellBlock:
        """Return cells with values in the type they are stored in."""
        dtype = self._stored.dtype.newbyteorder("=")
        if dtype.kind == "f" and dtype.itemsize > 4:  # the source's float32 would not be what is in the file
            data, indices, indptr = self._stored.read(start, stop)
            return CellBlock(data.astype(dtype), indices, indptr, self._panel, np.arange(start, stop))
        block = read_rows(self._source, 0, np.arange(start, stop))
        if dtype.kind != "f":
            block.data = block.data.astype(dtype)
        return block

    def _numbers(self, column: str) -> np.ndarray:
        import pandas as pd

        label = f"{self._panel.name}: obs"
        if column not in self._stored.columns("obs"):
            msg = (
                f"{label} has no column '{column}', which the official code divides by; add it (counts of each cell "
                "over all its genes), or leave --compat out."
            )
            raise DataError(msg)
        found: Any = self._stored.column("obs", column)
        if isinstance(found, pd.api.extensions.ExtensionArray) and found.dtype.kind in "iuf":
            found = found.to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.asarray(found)
        if values.dtype.kind not in "iuf":
            msg = f"{label}: column '{column}' does not hold numbers; the counts of each cell are needed."
            raise DataError(msg)
        return values

    def _passing(self) -> np.ndarray:
        import pandas as pd

        if "filter_pass" not in self._stored.columns("obs"):
            return np.ones(self._source.file_sizes[0], dtype=bool)
        column = pd.Series(self._stored.column("obs", "filter_pass"))
        return np.asarray(column.eq(1).fillna(False), dtype=bool)

    def _unusual(self) -> list[str]:
        notes = []
        kind = self._source.kind(0)
        if kind.kind != "counts":
            notes.append(
                f"{self._panel.name}: the values look {kind.kind} ({kind.evidence}); they are ranked as they are"
            )
        num_bad = int(np.count_nonzero(~(np.abs(self._depths) > 0)))
        if num_bad:
            effect = "they get every gene" if self._is_dense else "the order of their genes means nothing"
            notes.append(f"n_counts is 0 or missing in {num_bad:,} cells: {effect}")
        return notes
