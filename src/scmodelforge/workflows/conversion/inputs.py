"""The cells that are converted: values in the type they are written in, over the genes of all files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.data.gather import read_rows
from scmodelforge.data.merging import union_of_genes
from scmodelforge.data.sources._as_stored import AsStored
from scmodelforge.data.sources.local import LocalSource
from scmodelforge.data.writing import column_dtype, exactly
from scmodelforge.workflows.conversion.genes import warn_of_names, warn_of_repeats
from scmodelforge.workflows.conversion.partial import HopelessError
from scmodelforge.workflows.conversion.values import Values

__all__ = ["DTYPES", "Inputs"]

DTYPES = ("auto", "uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float32", "float64")
_ROWS_PER_READ = 1024
#: float32 does not hold all their values, so the source's float32 would not be what is in the file.
_WIDER_THAN_READ = ("float64", "float128")


class Inputs:
    """The cells of all files, one after another, over the union of their genes.

    Parameters
    ----------
    source
        The files.
    dtype
        One of :data:`DTYPES`; ``auto`` is the type the files have, or one that holds those of all files.
    pool
        Threads that read.

    Attributes
    ----------
    genes
        The genes, shape (G,), dtype object (str).
    columns
        The gene of each column, for each file.
    dtype, column_dtype
        Types that values and columns are given in.
    files
        The files as they are stored.
    starts
        First cell of each file, and the end, shape (files + 1,), int64.
    seen
        What was seen of the values so far.
    """

    def __init__(self, source: LocalSource, *, dtype: str, pool: Executor) -> None:
        self.source, self._pool = source, pool
        self.files = [source.stored(number) for number in range(len(source.panels))]
        ids = [_gene_ids(panel.gene_ids, file) for panel, file in zip(source.panels, self.files, strict=True)]
        self._ids = ids
        self.genes, self.columns = union_of_genes(ids)
        self.column_dtype = column_dtype(len(self.genes))
        self._stored_types = [file.dtype for file in self.files]
        self.dtype = _resolve(dtype, self._stored_types)
        self._is_sorted = [bool((np.diff(columns) > 0).all()) for columns in self.columns]
        self._is_same = [np.array_equal(columns, np.arange(len(columns))) for columns in self.columns]
        self.starts = np.concatenate([[0], np.cumsum(source.file_sizes)]).astype(np.int64)
        self.seen = Values()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def warnings(self) -> list[str]:
        """Return lines on genes that stand under two names, or twice in a file."""
        names = [file.name for file in self.files]
        repeats = [warn_of_repeats(ids, name) for ids, name in zip(self._ids, names, strict=True)]
        return [line for line in (*repeats, warn_of_names(self._ids, names)) if line is not None]

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values, columns and numbers of values of the cells ``start`` to ``stop``."""
        places = list(self._parts(start, stop))
        parts = list(self._pool.map(lambda place: self._read(*place), places))
        for (file, first, _), (values, _, counts) in zip(places, parts, strict=True):
            self.seen.add(values, counts, file=self.files[file].name, start=first)
        data, indices, lengths = (np.concatenate(each) for each in zip(*parts, strict=True))
        return data, indices, lengths

    def row_lengths(self) -> np.ndarray | None:
        """Return the number of values of each cell, int64, or ``None`` if a file does not tell."""
        found = [file.row_lengths for file in self.files]
        known = [lengths for lengths in found if lengths is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield file and rows of short stretches of the cells."""
        while start < stop:
            file = int(np.searchsorted(self.starts, start, side="right")) - 1
            end = min(stop, start + _ROWS_PER_READ, int(self.starts[file + 1]))
            yield file, start - int(self.starts[file]), end - int(self.starts[file])
            start = end

    def _read(self, file: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._stored_types[file].name in _WIDER_THAN_READ:
            data, indices, indptr = self.files[file].read(start, stop)
        else:
            block = read_rows(self.source, file, np.arange(start, stop))
            data, indices, indptr = block.data, block.indices, block.indptr
        label = f"{self.files[file].name}, rows {start:,} to {stop - 1:,},"
        try:
            data = exactly(data, self.dtype, label)
        except DataError as problem:
            raise HopelessError(str(problem)) from None
        if self._is_same[file]:
            return data, indices.astype(self.column_dtype), np.diff(indptr)
        columns = self.columns[file].take(indices)
        if not self._is_sorted[file]:
            rows = sp.csr_matrix((data, columns, indptr), shape=(stop - start, len(self.genes)))
            rows.sort_indices()
            data, columns = rows.data, rows.indices
        return data, columns.astype(self.column_dtype, copy=False), np.diff(indptr)


def _gene_ids(ids: np.ndarray, file: AsStored) -> list[str]:
    """Return the gene ids of a file; columns without one have their name in the file."""
    if all(ids):
        return [str(gene) for gene in ids]
    return [str(gene) or name for gene, name in zip(ids, file.index("var"), strict=True)]


def _resolve(dtype: str, stored: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    if dtype not in DTYPES:
        msg = f"--dtype {dtype} is none of {', '.join(DTYPES)}.{nearest(dtype, DTYPES)}"
        raise ConfigError(msg)
    if dtype != "auto":
        return np.dtype(dtype)
    floats = [kind for kind in stored if kind.kind == "f"]
    if floats:  # whole numbers that float32 does not hold are refused where they are read
        return np.result_type(np.float32, *floats)
    kinds = [np.dtype(np.uint8) if kind.kind == "b" else kind.newbyteorder("=") for kind in stored]
    found = np.result_type(*kinds)
    return found if found.kind in "iu" else np.dtype(np.int64)
