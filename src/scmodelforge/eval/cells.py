"""The cells a benchmark scores: embeddings with labels and batches as plain text, in an order of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["Cells", "check_disjoint"]


@dataclass(frozen=True, slots=True)
class Cells:
    """Embeddings of some cells and what is known of them.

    Attributes
    ----------
    embeddings
        Shape (n, H), float32.
    labels
        Cell type of each cell, shape (n,), str; empty where missing. Categories, numbers and missing values are turned
        into text, so that categories without cells cannot count. ``None`` if there is no such column.
    batches
        Batch of each cell, as ``labels``.
    groups
        What is drawn as a whole for intervals over groups, a donor usually, as ``labels``.
    positions
        Position of each cell in its source, shape (n,), integer. Results do not depend on the order of the cells: they
        are sorted by position, else by name, else by their content.
    names
        Name of each cell, shape (n,), str.

    Raises
    ------
    DataError
        If the arrays do not fit each other, or a cell is listed twice.
    """

    embeddings: np.ndarray
    labels: np.ndarray | None = None
    batches: np.ndarray | None = None
    groups: np.ndarray | None = None
    positions: np.ndarray | None = None
    names: np.ndarray | None = None

    def __post_init__(self) -> None:
        embeddings = np.asarray(self.embeddings, dtype=np.float32)
        if embeddings.ndim != 2:
            msg = f"embeddings have shape {embeddings.shape}; one row of numbers a cell is needed, shape (n, H)."
            raise DataError(msg)
        object.__setattr__(self, "embeddings", embeddings)
        for name in ("labels", "batches", "groups", "names"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _plain_text(getattr(self, name)))
        for name in ("labels", "batches", "groups", "positions", "names"):
            column = getattr(self, name)
            if column is not None and len(column) != len(embeddings):
                msg = f"{len(column):,} {name} for {len(embeddings):,} embeddings; give one for each cell."
                raise DataError(msg)
        for name in ("positions", "names"):
            column = getattr(self, name)
            if column is not None and len(np.unique(column)) < len(column):
                count = len(column) - len(np.unique(column))
                msg = f"{count:,} of {len(column):,} cells are listed twice (same {name}); list each cell once."
                raise DataError(msg)

    def __len__(self) -> int:
        return len(self.embeddings)

    def select(self, rows: np.ndarray) -> Cells:
        """Return the given cells (indices or mask) in the given order."""
        others = {each.name: getattr(self, each.name) for each in fields(self)[1:]}
        return Cells(
            self.embeddings[rows], **{name: None if column is None else column[rows] for name, column in others.items()}
        )

    def in_order(self) -> Cells:
        """Return the cells in an order that does not depend on how they were listed."""
        return self.select(self.order())

    def order(self) -> np.ndarray:
        """Return the rows in that order."""
        key = self.positions if self.positions is not None else self.names
        return np.argsort(key, kind="stable") if key is not None else self._order_by_content()

    def check_finite(self, representation: str) -> None:
        """Make sure that every number is one.

        Raises
        ------
        DataError
            If an embedding is NaN or infinite.
        """
        is_bad = ~np.isfinite(self.embeddings).all(axis=1)
        if is_bad.any():
            msg = (
                f"the '{representation}' embeddings of {int(is_bad.sum()):,} of {len(self):,} cells are NaN or "
                "infinite; leave those cells out, or find out why the embedding broke down."
            )
            raise DataError(msg)

    @property
    def is_constant(self) -> bool:
        """Whether all cells have the same embedding."""
        return len(self) == 0 or bool((self.embeddings == self.embeddings[0]).all())

    @property
    def num_duplicates(self) -> int:
        """Number of cells whose embedding an earlier cell has too, number for number."""
        return len(self) - len({row.tobytes() for row in self.embeddings})

    def _order_by_content(self) -> np.ndarray:
        columns = [column for column in (self.labels, self.batches) if column is not None]
        texts = ["\0".join(words).encode() for words in zip(*columns, strict=True)] or [b""] * len(self)
        rows = np.ascontiguousarray(self.embeddings)
        keys = [blake2b(row.tobytes() + text, digest_size=16).digest() for row, text in zip(rows, texts, strict=True)]
        return np.array(sorted(range(len(self)), key=keys.__getitem__), dtype=np.int64)


def check_disjoint(train: Cells, heldout: Cells) -> None:
    """Make sure that no held-out cell is a training cell.

    Raises
    ------
    DataError
        If one is, by position or by name.
    """
    for name in ("positions", "names"):
        ours, theirs = getattr(heldout, name), getattr(train, name)
        if ours is None or theirs is None:
            continue
        shared = np.intersect1d(ours, theirs)
        if len(shared):
            msg = (
                f"{len(shared):,} held-out cells are training cells too (same {name}, the first: {shared[0]}); "
                "scores of cells that were trained on say nothing. Split the cells again."
            )
            raise DataError(msg)


def _plain_text(column: Iterable[Any]) -> np.ndarray:
    values = np.asarray(column)
    if values.dtype.kind == "U":
        return values
    import pandas as pd

    is_missing = pd.isna(values)
    return np.array(["" if gone else str(value) for value, gone in zip(values, is_missing, strict=True)], dtype=str)
