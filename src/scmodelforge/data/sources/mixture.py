"""Several data sources as one: their files one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, SerializeAsAny, field_serializer

from scmodelforge._errors import DataError
from scmodelforge._registry import SOURCES
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.gather import read_into, read_rows, row_lengths
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import CellBlock, Panel, RowRange

__all__ = ["MixtureDataConfig", "MixtureSource"]


class MixtureDataConfig(DataConfig):
    """Settings of the data source ``mixture``."""

    sources: list[SerializeAsAny[DataConfig]] = Field(default_factory=list)
    """The sources: for each its name (``source``) and its own settings. Those of all data stand beside the list;
    ``sampling.by: source`` draws from them in the shares of ``sampling.weights``, where the first is ``0``."""

    @field_serializer("sources")
    def _own_settings(self, sources: list[DataConfig]) -> list[dict[str, Any]]:
        common = set(DataConfig.model_fields) - {"source"}
        return [entry.model_dump(mode="json", exclude=common) for entry in sources]


@SOURCES.register("mixture")
class MixtureSource:
    """Cells of several sources. Positions count through the first source's files, then the second's, and so on.

    Parameters
    ----------
    config
        The settings.

    Raises
    ------
    DataError
        If a source cannot be opened, or two of them list one path.
    """

    config_class = MixtureDataConfig

    def __init__(self, config: MixtureDataConfig) -> None:
        _refuse_repeats(config.sources)
        self._sources: list[CellSource] = []
        try:
            for number, entry in enumerate(config.sources):
                self._sources.append(_open(entry, number))
        except BaseException:
            self.close()
            raise
        #: Number of the source that each file comes from.
        self.file_entries = [number for number, source in enumerate(self._sources) for _ in source.file_sizes]
        self._files = [file for source in self._sources for file in range(len(source.file_sizes))]
        totals = [sum(source.file_sizes) for source in self._sources]
        self._starts = np.concatenate([[0], np.cumsum(totals)]).astype(np.int64)
        self._panels = self._named_apart()
        if all(hasattr(source, "kind") for source in self._sources):
            self.kind = self._kind  # only then known: who asks looks whether it is there
        if all(hasattr(source, "obs_numbers") for source in self._sources):
            self.obs_numbers = self._obs_numbers

    @property
    def panels(self) -> list[Panel]:
        """The genes of each file. Names that two sources have in common begin with the number of the source."""
        return list(self._panels)

    @property
    def file_sizes(self) -> list[int]:
        """Number of cells of each file."""
        return [size for source in self._sources for size in source.file_sizes]

    @property
    def obs_columns(self) -> list[str]:
        """Names of the obs columns that every file has, in the first source's order."""
        shared = set.intersection(*(set(source.obs_columns) for source in self._sources))
        return [column for column in self._sources[0].obs_columns if column in shared]

    def describe(self) -> list[str]:
        """Return what the sources say of their files."""
        return [line for source in self._sources for line in getattr(source, "describe", list)()]

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return an obs column of all cells as codes, shape (N,), int32, -1 where missing, and its categories.

        Raises
        ------
        DataError
            If a file has no such column.
        """
        merged: dict[str, int] = {}
        parts = []
        for source in self._sources:
            codes, categories = source.obs(column)
            renumbered = [merged.setdefault(category, len(merged)) for category in categories]
            parts.append(np.array([*renumbered, -1], dtype=np.int32)[codes])
        return np.concatenate(parts), list(merged)

    def obs_names(self) -> Iterator[str]:
        """Yield the name of each cell, in order of position."""
        for source in self._sources:
            yield from source.obs_names()

    def read(self, rows: RowRange) -> CellBlock:
        """Return the cells of a row range as raw values. Safe to call from several threads."""
        source = self._sources[self.file_entries[rows.file]]
        return self._as_ours(rows.file, source.read(replace(rows, file=self._files[rows.file])))

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        """Return some cells of a file, each once, in any order, as raw values. Safe to call from several threads.

        Parameters
        ----------
        file
            Number of the file.
        rows
            Row numbers, shape (n,), int64.
        """
        source = self._sources[self.file_entries[file]]
        return self._as_ours(file, read_rows(source, self._files[file], rows))

    def row_lengths(self, file: int, rows: np.ndarray) -> np.ndarray | None:
        """Return the stored values of some rows, or ``None`` where :meth:`read_into` cannot read."""
        return row_lengths(self._sources[self.file_entries[file]], self._files[file], rows)

    def read_into(self, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
        """Read some cells, each once, into arrays."""
        return read_into(self._sources[self.file_entries[file]], self._files[file], rows, values, columns)

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return what the sources say identifies their files, under the names of :attr:`panels`."""
        found = [entry for source in self._sources for entry in source.fingerprint()]
        return [{**entry, "name": panel.name} for entry, panel in zip(found, self._panels, strict=True)]

    def close(self) -> None:
        """Close all sources. Reading opens them again."""
        for source in self._sources:
            source.close()

    def _kind(self, file: int) -> Any:
        source: Any = self._sources[self.file_entries[file]]
        return source.kind(self._files[file])

    def _obs_numbers(self, column: str) -> np.ndarray | None:
        parts = []
        for source in self._sources:
            own = source.obs_numbers(column)  # type: ignore[attr-defined]
            if own is None:
                return None
            parts.append(own)
        return np.concatenate(parts)

    def _as_ours(self, file: int, cells: CellBlock) -> CellBlock:
        positions = cells.positions + self._starts[self.file_entries[file]]
        return replace(cells, panel=self._panels[file], positions=positions)

    def _named_apart(self) -> list[Panel]:
        panels = [panel for source in self._sources for panel in source.panels]
        names = [panel.name for panel in panels]
        return [
            panel if names.count(panel.name) == 1 else Panel(panel.gene_ids, f"sources[{entry}]/{panel.name}")
            for panel, entry in zip(panels, self.file_entries, strict=True)
        ]


def _open(entry: DataConfig, number: int) -> CellSource:
    try:
        source: CellSource = SOURCES.get(entry.source)(entry)
    except DataError as problem:
        text = str(problem)
        text = text.replace("data.", f"data.sources[{number}].", 1) if text.startswith("data.") else text
        raise DataError(text if "data.sources[" in text else f"data.sources[{number}]: {text}") from problem
    return source


def _refuse_repeats(entries: list[DataConfig]) -> None:
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        for path in getattr(entry, "paths", ()):
            first = seen.setdefault(path if "://" in path else str(Path(path).expanduser().resolve()), number)
            if first != number:
                msg = f"data.sources[{number}].paths: '{path}' is listed in data.sources[{first}] too; list it once."
                raise DataError(msg)
