"""What is in an AnnData file or store: its cells, its genes and the matrix that holds counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import DataError, nearest
from scmodelforge.data.inspect import ValueKind, describe_values
from scmodelforge.data.sources._frame import Frame
from scmodelforge.data.sources._gene_ids import find_gene_ids
from scmodelforge.data.sources._matrix import CsrMatrix, DenseMatrix
from scmodelforge.data.sources._open_matrix import ColumnsError, open_matrix
from scmodelforge.data.sources._pool import OpenFile
from scmodelforge.data.types import Panel

__all__ = ["FileFacts", "examine", "var_of"]

_SAMPLED_PARTS = 8
_ROWS_OF_A_PART = 64
_VALUES_BY_COLUMN = 65_536
_LOOKS_LIKE_COUNTS = re.compile(r"count|raw|umi", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a source knows of a file.

    Attributes
    ----------
    panel
        Its genes.
    matrix
        What reads its rows.
    kind
        What its values look like.
    obs_columns
        Its obs columns.
    description
        One line on the cells, the genes and why this matrix.
    genes_from
        The end of it: where the gene ids are from.
    """

    panel: Panel
    matrix: CsrMatrix | DenseMatrix
    kind: ValueKind
    obs_columns: list[str]
    description: str
    genes_from: str


def examine(file: OpenFile, name: str, *, layer: str | None, gene_id_column: str | None) -> FileFacts:
    """Check an open file and choose the matrix to read.

    Parameters
    ----------
    file
        The file.
    name
        What messages call it.
    layer
        ``X``, ``raw`` or a layer's name; ``None`` takes the first matrix that holds counts, or else X.
    gene_id_column
        var column with the gene ids; ``None`` takes var_names, or if these are no gene ids a column that has some.

    Raises
    ------
    DataError
        If something is missing or does not fit together.
    """
    obs = Frame(file, "obs", name)
    if not len(obs):
        msg = f"{name} has no cells; leave it out of data.paths."
        raise DataError(msg)
    places = _places(file, name)
    if layer is None:
        matrix, kind, reason = _find_counts(file, name, places, num_cells=len(obs))
    else:
        if layer not in places:
            listed = ", ".join(places)
            msg = f"{name} has no layer '{layer}' (data.layer).{nearest(layer, places)} There are: {listed}."
            raise DataError(msg)
        matrix = _open(file, name, places[layer], num_cells=len(obs))
        kind = _sample_kind(file, matrix)
        reason = f"{_label(places[layer])} is read, as data.layer says ({kind.kind}: {kind.evidence})"
    gene_ids, note = find_gene_ids(Frame(file, var_of(matrix.where), name), gene_id_column)
    description = f"{name}: {len(obs):,} cells, {len(gene_ids):,} genes; {reason}"
    return FileFacts(Panel(gene_ids, name), matrix, kind, obs.columns, description, note)


def _places(file: OpenFile, name: str) -> dict[str, str]:
    """Return the place of each matrix under its name in ``data.layer``."""
    places = {}
    if "X" in file.root and file.root["X"].attrs.get("encoding-type") != "null":
        places["X"] = "X"
    if "raw/X" in file.root:
        places["raw"] = "raw/X"
    # Cells that `scmodelforge generate` made have bins in a layer: whole numbers that are no counts.
    is_synthetic = "uns/scmodelforge/synthetic" in file.root
    for layer in () if is_synthetic else file.root.get("layers", ()):
        places.setdefault(layer, f"layers/{layer}")
    if not places:
        msg = f"{name} has no expression matrix: neither X nor raw nor a layer."
        raise DataError(msg)
    return places


def _find_counts(
    file: OpenFile, name: str, places: dict[str, str], *, num_cells: int
) -> tuple[CsrMatrix | DenseMatrix, ValueKind, str]:
    likely = [layer for layer in places if layer not in ("X", "raw") and _LOOKS_LIKE_COUNTS.search(layer)]
    order = dict.fromkeys([*(layer for layer in ("X", "raw") if layer in places), *likely, *places])
    refused: ColumnsError | None = None
    first: tuple[CsrMatrix | DenseMatrix, ValueKind] | None = None
    seen = []
    for layer in order:
        try:
            matrix = _open(file, name, places[layer], num_cells=num_cells)
        except ColumnsError as error:
            some = file[f"{places[layer]}/data"][:_VALUES_BY_COLUMN]
            if describe_values(some).kind == "counts" or len(places) == 1:
                refused = refused or error
            seen.append(f"{_label(places[layer])} is stored by columns")
            continue
        kind = _sample_kind(file, matrix)
        if kind.kind == "counts":
            others = f" ({', '.join(seen)})" if seen else ""
            return matrix, kind, f"counts found in {_label(places[layer])}{others}"
        seen.append(f"{_label(places[layer])} is {kind.kind}")
        first = first or (matrix, kind)
    if refused is not None:
        raise refused
    if first is None:
        msg = f"{name}: every matrix is stored by columns and none holds counts; name the layer with counts."
        raise DataError(msg)
    return *first, f"no counts found ({', '.join(seen)}), so {_label(first[0].where)} is read"


def _open(file: OpenFile, name: str, where: str, *, num_cells: int) -> CsrMatrix | DenseMatrix:
    num_genes = len(Frame(file, var_of(where), name))
    return open_matrix(file, where, f"{name}: {_label(where)}", shape=(num_cells, num_genes))


def _sample_kind(file: OpenFile, matrix: CsrMatrix | DenseMatrix) -> ValueKind:
    """Look at rows in several parts of the matrix."""
    num_cells = matrix.shape[0]
    starts = np.unique(np.linspace(0, max(0, num_cells - _ROWS_OF_A_PART), _SAMPLED_PARTS).astype(int))
    parts = []
    stop = 0
    for start in starts:
        start, stop = max(int(start), stop), min(int(start) + _ROWS_OF_A_PART, num_cells)
        parts.append(matrix.read(file, start, stop))
    lengths = np.concatenate([np.diff(indptr) for _, _, indptr in parts])
    return describe_values(np.concatenate([data for data, _, _ in parts]), np.append(0, np.cumsum(lengths)))


def var_of(where: str) -> str:
    """Return the table of genes of a matrix."""
    return "raw/var" if where == "raw/X" else "var"


def _label(where: str) -> str:
    """Return what messages call a matrix."""
    return f"layer '{where.removeprefix('layers/')}'" if where.startswith("layers/") else where.replace("/", ".")
