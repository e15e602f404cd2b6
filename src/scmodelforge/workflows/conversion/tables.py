"""The obs and var tables of a collection: the union of the columns of all files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scmodelforge.data._frames import write_column, write_frame
from scmodelforge.data._zarr3 import write_group
from scmodelforge.data.merging import RowNames, merge_columns
from scmodelforge.workflows.conversion.inputs import Inputs

__all__ = ["FILE_COLUMN", "write_tables"]

_log = logging.getLogger(__name__)

#: obs column with the file a cell is from.
FILE_COLUMN = "source_file"
#: var column with a file's own names, where the gene ids are from another column.
NAMES_COLUMN = "var_names"


def write_tables(inputs: Inputs, folders: Sequence[Path], order: Sequence[np.ndarray]) -> None:
    """Write obs and var of all data sets, column by column; one column of all cells is in memory.

    Parameters
    ----------
    inputs
        The cells.
    folders
        The data sets.
    order
        The cells of each data set.
    """
    names = RowNames(inputs.source.obs_names(), inputs.source.file_sizes, _labels(inputs))
    if names.num_changed:
        _log.info(f"{names.num_changed:,} cell names repeat; their file's name was added to them")
    columns = _union(inputs, "obs")
    listed = [*columns, *([] if FILE_COLUMN in columns else [FILE_COLUMN])]
    groups = [write_group(folder, "anndata") for folder in folders]
    frames = [write_frame(group, "obs", names.take(cells), listed) for group, cells in zip(groups, order, strict=True)]
    del names
    for column in listed:
        values = _obs_column(inputs, column)
        for frame, cells in zip(frames, order, strict=True):
            write_column(frame, column, values[cells])
    var = {column: _var_column(inputs, column) for column in _var_columns(inputs)}
    for group in groups:
        frame = write_frame(group, "var", inputs.genes, list(var))
        for column, values in var.items():
            write_column(frame, column, values)


def _labels(inputs: Inputs) -> list[str]:
    return [file.name.removesuffix(".h5ad").removesuffix(".zarr") for file in inputs.files]


def _union(inputs: Inputs, table: Literal["obs", "var"]) -> list[str]:
    return list(dict.fromkeys(column for file in inputs.files for column in file.columns(table)))


def _obs_column(inputs: Inputs, column: str) -> Any:
    import pandas as pd

    parts = []
    for file, size in zip(inputs.files, inputs.source.file_sizes, strict=True):
        values: Any = file.column("obs", column) if column in file.columns("obs") else None
        if column == FILE_COLUMN and values is None:
            values = pd.Categorical.from_codes(np.zeros(size, dtype=np.int8), [file.name])
        parts.append((values, size))
    return merge_columns(parts)


def _var_columns(inputs: Inputs) -> list[str]:
    columns = _union(inputs, "var")
    renamed = any(
        list(panel.gene_ids) != file.index("var")
        for panel, file in zip(inputs.source.panels, inputs.files, strict=True)
    )
    return [*columns, *([NAMES_COLUMN] if renamed and NAMES_COLUMN not in columns else [])]


def _var_column(inputs: Inputs, column: str) -> Any:
    """Return a column of all genes; each has the value of the first file that has it and the column."""
    import pandas as pd

    parts: list[tuple[Any, int]] = []
    places = []
    missing = np.ones(len(inputs.genes), dtype=bool)
    for file, genes in zip(inputs.files, inputs.columns, strict=True):
        if column in file.columns("var"):
            values: Any = file.column("var", column)
        elif column == NAMES_COLUMN:
            values = pd.Categorical(file.index("var"))
        else:
            continue
        is_new = missing[genes]
        parts.append((values[is_new], int(is_new.sum())))
        places.append(genes[is_new])
        missing[genes] = False
    places.append(np.flatnonzero(missing))
    parts.append((None, len(places[-1])))
    return merge_columns([part for part in parts if part[1]])[np.argsort(np.concatenate(places))]
