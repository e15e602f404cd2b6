"""What sources of cells and encoders of them must offer. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scmodelforge.data.types import CellBlock, Panel, RowRange, TokenBlock

__all__ = ["BlockEncoder", "BoundEncoder", "CellSource"]


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
