"""Cells of the CELLxGENE Census, or of any other TileDB-SOMA experiment, selected by a filter and read by rows."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field

from scmodelforge._registry import SOURCES
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.inspect import ValueKind, describe_values
from scmodelforge.data.sources._soma_filter import combined_filter, named_columns
from scmodelforge.data.sources._soma_frame import ObsTable, read_genes
from scmodelforge.data.sources._soma_matrix import SomaMatrix
from scmodelforge.data.sources._soma_store import StorePool, locate
from scmodelforge.data.types import CellBlock, Panel, RowRange

__all__ = ["CensusDataConfig", "CensusSource"]

_log = logging.getLogger(__name__)
_PRIMARY = "is_primary_data"
_SAMPLED_PARTS = 8
_ROWS_OF_A_PART = 64

FilterValue = bool | int | float | str


class CensusDataConfig(DataConfig):
    """Settings of the data source ``cellxgene_census``."""

    organism: str = "homo_sapiens"
    """Organism of a Census, ``homo_sapiens`` or ``Homo sapiens``."""
    filters: dict[str, FilterValue | list[FilterValue]] = Field(default_factory=dict)
    """obs columns with the value, or the list of values, that cells must have; all columns must agree."""
    value_filter: str | None = None
    """A SOMA expression over obs columns that cells must meet as well: ``raw_sum > 500 and disease == 'normal'``."""
    census_version: str = "stable"
    """Version of the public Census: ``stable``, ``latest`` or the date of a build. Not for use with ``uri``."""
    uri: str | None = None
    """Folder or ``s3://`` place of another Census, or of a single SOMA experiment; ``None`` is the public Census."""
    measurement: str = "RNA"
    """Measurement of the experiment."""
    layer: str = "raw"
    """X layer of the measurement."""
    gene_id_column: str | None = None
    """var column with the gene ids; ``None`` is ``feature_id``, or if there is none ``var_id``."""


@SOURCES.register("cellxgene_census")
class CensusSource:
    """Cells of one SOMA experiment that meet a filter, in ascending order of their soma_joinid, as one file.

    The filter is worked out where the cells lie. In memory are the joinids of the selected cells (8 bytes a cell) and
    the genes; obs columns and values are read when asked for. Threads may share a source, a copy by pickle or fork
    opens the store anew.

    Parameters
    ----------
    config
        The settings.

    Raises
    ------
    DataError
        If the store cannot be reached, or does not have what the settings name; if no cell meets the filter.
    ConfigError
        If settings contradict each other.
    ImportError
        If the packages of the extra ``census`` are missing.
    """

    config_class = CensusDataConfig

    def __init__(self, config: CensusDataConfig) -> None:
        place = locate(
            config.uri, version=config.census_version, organism=config.organism, measurement=config.measurement
        )
        self._place = place
        self._pool = StorePool(place, measurement=config.measurement, layer=config.layer)
        with self._pool.use() as store:
            self._filter = combined_filter(store.obs, config.filters, config.value_filter, place.name)
            self._obs = ObsTable(store.obs, self._filter, place.name)
            listed = {column: value for column, value in config.filters.items() if isinstance(value, list)}
            self._joinids = self._obs.select(store.obs, listed)
            self._num_stored = int(store.obs.count)
            gene_ids, gene_joinids, self._gene_column = read_genes(store.var, config.gene_id_column, place.name)
        self._panel = Panel(gene_ids, place.name)
        self._matrix = SomaMatrix(f"{place.name}: layer '{config.layer}'", gene_joinids)
        self._what = {"measurement": config.measurement, "layer": config.layer}
        if not self._has_primary_filter(config):
            _log.warning(
                f"{place.name} has the column '{_PRIMARY}', which no filter uses: a cell that several data sets share "
                f"is read several times. To read it once, add {_PRIMARY}: true to data.filters."
            )

    @property
    def panels(self) -> list[Panel]:
        """The genes of the measurement, in one list."""
        return [self._panel]

    @property
    def file_sizes(self) -> list[int]:
        """Number of selected cells, in one list."""
        return [len(self._joinids)]

    @property
    def joinids(self) -> np.ndarray:
        """The soma_joinid of each cell, shape (N,), int64, ascending."""
        return self._joinids

    @property
    def obs_columns(self) -> list[str]:
        """Names of the obs columns."""
        return list(self._obs.columns)

    def kind(self, file: int) -> ValueKind:
        """Return what the values look like, by a sample of the cells."""
        return describe_values(self._sample.data, self._sample.indptr)

    def describe(self) -> list[str]:
        """Return lines on the cells, the filter, the genes, the matrix that is read, and the version."""
        selected = f"{len(self._joinids):,} of {self._num_stored:,} cells"
        rule = f"with {self._filter}" if self._filter else "(no filter)"
        kind = self.kind(0)
        first = (
            f"{self._place.name}: {selected} {rule}, {len(self._panel.gene_ids):,} genes (ids from var column "
            f"'{self._gene_column}'); {self._what['measurement']}/{self._what['layer']} is read ({kind.kind}: "
            f"{kind.evidence})"
        )
        return [first, *self._place.notes]

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return an obs column of all cells as codes, shape (N,), int32, -1 where missing, and its categories.

        Only this column is read, as codes. Categories come in the order they are stored in, texts without stored
        categories in the order they appear in, numbers ascending; all without those that no cell has.

        Raises
        ------
        DataError
            If there is no such column, or if it holds neither text nor numbers.
        """
        with self._pool.use() as store:
            return self._obs.codes(store.obs, column, self._joinids)

    def obs_names(self) -> Iterator[str]:
        """Yield the name of each cell: its barcode if obs has a column for it, else its joinid."""
        for joinids in self._obs.name_parts(self._joinids):
            with self._pool.use() as store:
                names = self._obs.names(store.obs, joinids)
            yield from names

    def read(self, rows: RowRange) -> CellBlock:
        """Return the cells of a row range as stored. Safe to call from several threads.

        Raises
        ------
        DataError
            If the store cannot be read there, or holds whole numbers that float32 does not.
        IndexError
            If there are no such rows.
        """
        num_cells = len(self._joinids)
        if rows.file != 0 or not 0 <= rows.start <= rows.stop <= num_cells:
            msg = f"rows {rows.start} to {rows.stop} of file {rows.file} of {self._place.name}: {num_cells:,} cells"
            raise IndexError(msg)
        return self._read(np.arange(rows.start, rows.stop, dtype=np.int64))

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        """Return some cells, each once, in any order, as stored, with one request for each 1,024 of them.

        Parameters
        ----------
        file
            Number of the file, 0.
        rows
            Row numbers, shape (n,), int64.

        Raises
        ------
        DataError
            If the store cannot be read there, or holds whole numbers that float32 does not.
        """
        order = np.argsort(rows)
        block = self._read(rows[order])
        return block if (order[1:] > order[:-1]).all() else block.select(np.argsort(order))

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return the name, the number of cells and genes, and a sha256; ``sha256_of`` says of what.

        It does not depend on where the store lies. ``nnz`` is ``None``: it is not known before all is read.
        """
        return [dict(self._fingerprint)]

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        facts = {**self._place.identity, **self._what, "filter": self._filter, "genes": self._panel.gene_ids.tolist()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        sample = self._sample
        for array in (self._joinids, sample.positions, sample.indptr, sample.indices, sample.data):
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        return {
            "name": self._place.name,
            "cells": len(self._joinids),
            "genes": len(self._panel.gene_ids),
            "nnz": None,
            "sha256": digest.hexdigest(),
            "sha256_of": f"version, filter, joinids, genes and the values of {len(sample):,} cells",
        }

    @cached_property
    def _sample(self) -> CellBlock:
        """Cells of several parts of the selection."""
        num_cells = len(self._joinids)
        starts = np.linspace(0, max(0, num_cells - _ROWS_OF_A_PART), _SAMPLED_PARTS).astype(np.int64)
        rows = np.unique(starts[:, None] + np.arange(_ROWS_OF_A_PART))
        return self._read(rows[rows < num_cells])

    def close(self) -> None:
        """Let go of the store that this process has open. Reading opens it again."""
        self._pool.close()

    def _read(self, rows: np.ndarray) -> CellBlock:
        """Return some cells, their row numbers ascending."""
        with self._pool.use() as store:
            data, indices, indptr = self._matrix.read(store.x, self._joinids[rows])
        return CellBlock(data, indices, indptr, self._panel, rows)

    def _has_primary_filter(self, config: CensusDataConfig) -> bool:
        used = {*config.filters, *named_columns(config.value_filter)}
        return _PRIMARY not in self._obs.columns or _PRIMARY in used
