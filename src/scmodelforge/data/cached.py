"""Preprocessed cells kept on disk, for the passes and runs to come: ``data.preprocessing.cache``.

An entry is a folder named by a hash of the source's fingerprint, of the settings that say which matrix is read, and of
those that change values. It holds an AnnData zarr store for each file of the source and gets its name when all are
written, so that an entry is of the right data and whole, or is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.sources.mixture import MixtureDataConfig
from scmodelforge.data.types import CellBlock, Panel, RowRange
from scmodelforge.data.writing import AnnDataWriter

__all__ = ["CachedCells", "cached_cells", "cells_in_cache"]

_log = logging.getLogger(__name__)

#: Changed whenever what is written changes.
_FORMAT = 1
_ROWS_AT_ONCE = 1024


class CachedCells:
    """The cells of a source after preprocessing, read from a cache. Obs and fingerprint are the source's own.

    Parameters
    ----------
    source
        Where the cells come from.
    kept
        The cache's stores, one for each file of the source, in its order.
    """

    def __init__(self, source: CellSource, kept: LocalSource) -> None:
        self._source, self._kept = source, kept

    @property
    def panels(self) -> list[Panel]:
        """The genes of each file."""
        return self._source.panels

    @property
    def file_sizes(self) -> list[int]:
        """Number of cells of each file."""
        return self._source.file_sizes

    @property
    def obs_columns(self) -> list[str]:
        """Names of the obs columns that every file has."""
        return self._source.obs_columns

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return an obs column of all cells as codes, and its categories."""
        return self._source.obs(column)

    def obs_names(self) -> Iterator[str]:
        """Yield the name of each cell, in order of position."""
        return self._source.obs_names()

    def read(self, rows: RowRange) -> CellBlock:
        """Return the preprocessed cells of a row range."""
        return replace(self._kept.read(rows), panel=self.panels[rows.file])

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        """Return some preprocessed cells of a file, in any order."""
        return replace(self._kept.read_rows(file, rows), panel=self.panels[file])

    def row_lengths(self, file: int, rows: np.ndarray) -> np.ndarray | None:
        """Return the kept values of some rows, or ``None`` where :meth:`read_into` cannot read."""
        return self._kept.row_lengths(file, rows)

    def read_into(self, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
        """Read some preprocessed cells, each once, into arrays."""
        return self._kept.read_into(file, rows, values, columns)

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return what identifies the data that the cache is of."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Let go of open files, those of the source too."""
        self._kept.close()
        self._source.close()


def cached_cells(
    source: CellSource, config: DataConfig, folder: Path, *, fitted: Callable[[], Preprocessor]
) -> CachedCells:
    """Return the preprocessed cells of a source from a cache; what is not there yet is written first.

    Parameters
    ----------
    source
        The cells.
    config
        The settings they were opened with.
    folder
        The cache.
    fitted
        Gives the preprocessor for these cells; called only if they must be written.

    Raises
    ------
    DataError
        If the cache cannot be written.
    """
    entry = folder / _key(source, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(entry):
            kept = _opened(source, entry)
            if kept is None:
                _write(source, entry, fitted())
                kept = _opened(source, entry)
    except OSError as error:
        msg = (
            f"data.preprocessing.cache: {folder} cannot be written ({error.strerror}); make room, or name another "
            "folder."
        )
        raise DataError(msg) from error
    assert kept is not None
    return CachedCells(source, kept)


def cells_in_cache(source: CellSource, config: DataConfig, folder: Path) -> CachedCells | None:
    """Return the preprocessed cells of a source if the cache has them; nothing is written.

    Parameters
    ----------
    source, config, folder
        As for :func:`cached_cells`.
    """
    kept = _opened(source, folder / _key(source, config), otherwise="not used")
    return None if kept is None else CachedCells(source, kept)


def _key(source: CellSource, config: DataConfig) -> str:
    """Return the name of the entry for a source and its settings."""
    settings = config.preprocessing
    values: dict[str, Any] = {"normalize": settings.normalize, "log1p": settings.log1p}
    if settings.normalize == "library_size":
        values["target_sum"] = settings.target_sum
    facts = {"format": _FORMAT, "source": _own(config), "data": source.fingerprint(), "values": values}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _own(config: DataConfig) -> Any:
    """Return the settings of a source that say what is read, without those that say where it lies."""
    if isinstance(config, MixtureDataConfig):
        return [_own(entry) for entry in config.sources]
    shared = {*DataConfig.model_fields, "paths", "uri", "remote"}
    return [config.source, {name: value for name, value in config.model_dump().items() if name not in shared}]


def _opened(source: CellSource, entry: Path, *, otherwise: str = "written again") -> LocalSource | None:
    """Return the stores of an entry, or ``None`` if it is not there or of no use."""
    if not entry.is_dir():
        return None
    paths = [str(entry / f"file_{number}.zarr") for number in range(len(source.file_sizes))]
    try:
        kept = LocalSource(LocalDataConfig(source="local", paths=paths, layer="X"))
    except DataError as error:
        _log.warning(f"{entry} of data.preprocessing.cache is damaged and is {otherwise}: {error}")
        return None
    if kept.file_sizes == source.file_sizes:
        return kept
    _log.warning(f"{entry} of data.preprocessing.cache has other numbers of cells and is {otherwise}")
    return None


def _write(source: CellSource, entry: Path, preprocessor: Preprocessor) -> None:
    _log.info(f"writing {sum(source.file_sizes):,} preprocessed cells to {entry}")
    partial = entry.with_name(entry.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_files(source, partial, preprocessor)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # of no use, and the disk may be full
        raise
    shutil.rmtree(entry, ignore_errors=True)
    partial.replace(entry)


def _write_files(source: CellSource, folder: Path, preprocessor: Preprocessor) -> None:
    for file, (panel, size) in enumerate(zip(source.panels, source.file_sizes, strict=True)):
        # named by number: what genes are called is the source's affair
        columns = Panel(np.array([str(number) for number in range(len(panel.gene_ids))], dtype=object), panel.name)
        with AnnDataWriter(folder / f"file_{file}.zarr", columns) as writer:
            for start in range(0, size, _ROWS_AT_ONCE):
                block = source.read(RowRange(file, start, min(start + _ROWS_AT_ONCE, size)))
                writer.append(replace(preprocessor(block), panel=columns))
            writer.finish()


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Wait until no other process is writing the entry."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    descriptor = os.open(entry.with_name(entry.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
