"""Cells of files that a pool opens, read by rows, never whole: what sources of AnnData have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.gather import gather_by_ranges
from scmodelforge.data.inspect import ValueKind
from scmodelforge.data.sources._as_stored import AsStored
from scmodelforge.data.sources._duplicates import has_duplicates, summed
from scmodelforge.data.sources._examine import FileFacts, examine, var_of
from scmodelforge.data.sources._frame import Frame, no_column
from scmodelforge.data.sources._gene_ids import best_gene_ids
from scmodelforge.data.sources._matrix import CsrMatrix, Rows, Tables
from scmodelforge.data.sources._pool import FilePool, OpenFile, StoredFile
from scmodelforge.data.types import CellBlock, Panel, RowRange

if TYPE_CHECKING:
    from scmodelforge.data.vocab import GeneVocab

__all__ = ["StoredCells"]

_NAMES_AT_ONCE = 16_384


class StoredCells:
    """Cells of one or several files, each with its own panel of genes.

    Every file is checked here, once; its values are read when asked for. Threads may share a source, a copy by pickle
    or fork opens the files anew.

    Parameters
    ----------
    files
        The files.
    layer
        ``X``, ``raw`` or a layer's name; ``None`` finds the one that holds counts.
    gene_id_column
        var column with the gene ids; ``None`` is var_names, or if these are no gene ids a column that has some.

    Raises
    ------
    DataError
        If a file is missing, damaged, not AnnData, or does not have what the arguments name.
    """

    def __init__(self, files: Sequence[StoredFile], *, layer: str | None, gene_id_column: str | None) -> None:
        self._pool = FilePool(files)
        self._gene_id_column = gene_id_column
        self._tables: dict[int, Tables | None] = {}  # found when rows of a file are first asked for
        self._has_duplicates: set[int] = set()  # files in which a cell was seen that has a gene twice

        def facts_of(number: int, file: OpenFile) -> FileFacts:
            return examine(file, files[number].name, layer=layer, gene_id_column=gene_id_column)

        try:
            self._files = self._pool.first_look(facts_of)
        except BaseException:
            self._pool.close()
            raise
        self._starts = np.concatenate([[0], np.cumsum(self.file_sizes)]).astype(np.int64)

    @property
    def panels(self) -> list[Panel]:
        """The genes of each file."""
        return [facts.panel for facts in self._files]

    @property
    def file_sizes(self) -> list[int]:
        """Number of cells of each file."""
        return [facts.matrix.shape[0] for facts in self._files]

    @property
    def obs_columns(self) -> list[str]:
        """Names of the obs columns that every file has, in the first file's order."""
        shared = set.intersection(*(set(facts.obs_columns) for facts in self._files))
        return [column for column in self._files[0].obs_columns if column in shared]

    def kind(self, file: int) -> ValueKind:
        """Return what the values of a file look like, by a sample of its cells."""
        return self._files[file].kind

    def describe(self) -> list[str]:
        """Return a line for each file: its size, the matrix that is read, and why."""
        return [facts.description + facts.genes_from for facts in self._files]

    def choose_gene_ids(self, vocab: GeneVocab) -> None:
        """Take of each file the gene ids that a vocabulary has most genes of, unless a column was named.

        :func:`~scmodelforge.data.sources._gene_ids.best_gene_ids` says which win of several.
        """
        if self._gene_id_column is not None:
            return
        for number, facts in enumerate(self._files):
            with self._pool.use(number) as file:
                found = best_gene_ids(Frame(file, var_of(facts.matrix.where), facts.panel.name), vocab)
            if found is not None:
                panel = Panel(found[0], facts.panel.name)
                self._files[number] = replace(facts, panel=panel, genes_from=found[1])

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return an obs column of all cells as codes, shape (N,), int32, -1 where missing, and its categories.

        Categories come in the order of the first file that has them, without those that no cell has.

        Raises
        ------
        DataError
            If a file has no such column; the message lists those that every file has.
        """
        merged: dict[str, int] = {}
        codes = np.empty(int(self._starts[-1]), dtype=np.int32)
        for number, facts in enumerate(self._files):
            if column not in facts.obs_columns:
                raise DataError(no_column(f"{facts.panel.name}: obs", column, self.obs_columns))
            with self._pool.use(number) as file:
                own, categories = Frame(file, "obs", facts.panel.name).codes(column)
            renumbered = [merged.setdefault(category, len(merged)) for category in categories]
            codes[self._starts[number] : self._starts[number + 1]] = np.array([*renumbered, -1], dtype=np.int32)[own]
        return codes, list(merged)

    def obs_numbers(self, column: str) -> np.ndarray | None:
        """Return an obs column that holds numbers in every file, shape (N,), float64, NaN where missing.

        ``None`` if it holds text or truth values in some file.

        Raises
        ------
        DataError
            If a file has no such column, or has a whole number in it that float64 does not.
        """
        numbers = np.empty(int(self._starts[-1]), dtype=np.float64)
        for number, facts in enumerate(self._files):
            if column not in facts.obs_columns:
                raise DataError(no_column(f"{facts.panel.name}: obs", column, self.obs_columns))
            with self._pool.use(number) as file:
                own = Frame(file, "obs", facts.panel.name).numbers(column)
            if own is None:
                return None
            numbers[self._starts[number] : self._starts[number + 1]] = own
        return numbers

    def obs_names(self) -> Iterator[str]:
        """Yield the name of each cell, in order of position."""
        for number, facts in enumerate(self._files):
            for start in range(0, facts.matrix.shape[0], _NAMES_AT_ONCE):
                with self._pool.use(number) as file:
                    names = Frame(file, "obs", facts.panel.name).index(start, start + _NAMES_AT_ONCE)
                yield from names

    def read(self, rows: RowRange) -> CellBlock:
        """Return the cells of a row range as raw values. Safe to call from several threads.

        Raises
        ------
        DataError
            If the file cannot be read there, or holds whole numbers that float32 does not.
        IndexError
            If there are no such rows.
        """
        facts = self._files[rows.file]
        if not 0 <= rows.start <= rows.stop <= facts.matrix.shape[0]:
            msg = f"rows {rows.start} to {rows.stop} of {facts.panel.name}, which has {facts.matrix.shape[0]:,} cells"
            raise IndexError(msg)
        if self._tables_of(rows.file) is not None:
            return self.read_rows(rows.file, np.arange(rows.start, rows.stop))
        with self._pool.use(rows.file, rows=(rows.start, rows.stop)) as file:
            found = facts.matrix.read(file, rows.start, rows.stop)
        first = int(self._starts[rows.file])
        positions = np.arange(first + rows.start, first + rows.stop, dtype=np.int64)
        return CellBlock(*self._each_gene_once(rows.file, found), facts.panel, positions)

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        """Return some cells of a file, each once, in any order, as raw values. Safe to call from several threads.

        Of a file whose chunks are packed as usual, threads read and unpack beside each other; h5py or zarr-python reads
        the others.

        Parameters
        ----------
        file
            Number of the file.
        rows
            Row numbers, shape (n,), int64.

        Raises
        ------
        DataError
            If the file cannot be read there, or holds whole numbers that float32 does not.
        """
        facts = self._files[file]
        tables = self._tables_of(file)
        if tables is None or not isinstance(facts.matrix, CsrMatrix):
            return gather_by_ranges(self, file, rows)
        found = facts.matrix.gather(self._pool[file].reader, tables, rows, at_once=self._pool[file].is_remote)
        return CellBlock(*self._each_gene_once(file, found), facts.panel, int(self._starts[file]) + rows)

    def row_lengths(self, file: int, rows: np.ndarray) -> np.ndarray | None:
        """Return the stored values of some rows, shape (n,), int64, or ``None`` where :meth:`read_into` cannot read.

        It cannot where a cell was seen that has a gene twice; all cells are read once before they are asked for so.
        """
        matrix = self._files[file].matrix
        if not isinstance(matrix, CsrMatrix) or self._tables_of(file) is None or file in self._has_duplicates:
            return None
        return matrix.indptr[rows + 1] - matrix.indptr[rows]

    def read_into(self, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
        """Read some cells, each once, into arrays, one after another; see :func:`~scmodelforge.data.gather.read_into`.

        Raises
        ------
        DataError
            If the file cannot be read there, or holds whole numbers that float32 does not.
        """
        tables, matrix, stored = self._tables_of(file), self._files[file].matrix, self._pool[file]
        assert tables is not None
        assert isinstance(matrix, CsrMatrix)
        return matrix.gather_into(stored.reader, tables, rows, values, columns, at_once=stored.is_remote)

    def _each_gene_once(self, file: int, rows: Rows) -> Rows:
        """Return rows with the sum of the values of a gene that a cell has twice."""
        num_genes = self._files[file].matrix.shape[1]
        if not isinstance(self._files[file].matrix, CsrMatrix) or not has_duplicates(rows[1], rows[2], num_genes):
            return rows
        self._has_duplicates.add(file)
        return summed(rows, num_genes)

    def _tables_of(self, file: int) -> Tables | None:
        if file not in self._tables:
            matrix = self._files[file].matrix
            with self._pool.use(file) as opened:
                self._tables[file] = matrix.tables(opened) if isinstance(matrix, CsrMatrix) else None
        return self._tables[file]

    def stored(self, file: int) -> AsStored:
        """Return a file's values and tables in the types they are stored in."""
        return AsStored(self._pool, file, self._files[file])

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return for each file its name, cells, genes, nnz (``None`` if dense), bytes and sha256.

        ``sha256_of`` says what the sha256 is of: the content, or for files above 256 MiB the size and parts of it.
        """
        return [dict(entry) for entry in self._fingerprint]

    @cached_property
    def _fingerprint(self) -> list[dict[str, Any]]:
        found = []
        for number, facts in enumerate(self._files):
            cells, genes = facts.matrix.shape
            entry = {"name": facts.panel.name, "cells": cells, "genes": genes, "nnz": facts.matrix.nnz}
            found.append({**entry, **self._pool[number].digest()})
        return found

    def close(self) -> None:
        """Close the files that this process has open. Reading opens them again."""
        self._pool.close()
