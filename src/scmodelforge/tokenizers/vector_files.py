"""Files of gene vectors: a gene and its numbers, as published in several formats. None is read by way of pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._optional import require

__all__ = ["NamedVectors", "checked_vectors", "is_flat", "read_vectors"]

_GENES = ("genes", "gene_ids", "gene", "gene_id", "gene_names", "ids", "names", "index")
_MATRIX = ("vectors", "embeddings", "embedding", "X")
_FORMATS = "parquet, csv, npz, safetensors, h5 or word2vec text (txt, vec, w2v, tsv)"
_NO_SPREAD = 1e-6  # relative to the numbers themselves


class NamedVectors(NamedTuple):
    """Genes of a file and their vectors.

    Attributes
    ----------
    genes
        Gene ids as the file has them, N of them.
    vectors
        Shape (N, D), float32.
    sha256
        Of the file.
    """

    genes: list[str]
    vectors: np.ndarray
    sha256: str


def read_vectors(path: Path, *, setting: str = "tokenizer.path") -> NamedVectors:
    """Read gene vectors, each of which is finite and all of which are of one width.

    ``.npz``, ``.safetensors`` and ``.h5`` hold either one array for each gene under the gene's name, or two arrays:
    ``genes`` and ``vectors`` (in safetensors the genes are a JSON list ``genes`` of the metadata). ``.parquet`` holds a
    column of genes and columns of numbers, or one of lists, ``.csv`` the former. Text is that of word2vec: a gene and
    its numbers a line, after a line with both counts or none.

    Parameters
    ----------
    path
        The file.
    setting
        What messages call it.

    Raises
    ------
    ConfigError
        If the file is missing or of a format that is not read.
    DataError
        If it does not hold what is needed.
    """
    if not path.is_file():
        msg = f"{setting}: no file '{path}'; it needs a file of gene vectors: {_FORMATS}."
        raise ConfigError(msg)
    if path.suffix not in _READERS:
        msg = f"{setting}: '{path.name}' is not read{_why_not(path.suffix)}; save the vectors as {_FORMATS}."
        raise ConfigError(msg)
    try:
        genes, rows = _READERS[path.suffix](path)
    except (DataError, ImportError):
        raise
    except Exception as problem:  # each format has errors of its own; all mean that the file is not one
        msg = f"{path}: not readable as gene vectors ({' '.join(str(problem).split())}); {_FORMATS} is needed."
        raise DataError(msg) from problem
    return NamedVectors(genes, checked_vectors(str(path), genes, rows), _sha256(path))


def _why_not(suffix: str) -> str:
    if suffix in (".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib"):
        return ": such files can run code when they are opened"
    return ": it has no gene names" if suffix == ".npy" else ""


def checked_vectors(path: str, genes: Sequence[str], rows: Any) -> np.ndarray:
    """Return vectors as one array, shape (N, D), float32, after all that can be wrong with them was looked for.

    Parameters
    ----------
    path
        What messages call their origin.
    genes
        Whose they are.
    rows
        The vector of each.

    Raises
    ------
    DataError
        If they are not finite, of one width, and one for each gene.
    """
    if not genes:
        msg = f"{path}: no gene in it; gene vectors are needed."
        raise DataError(msg)
    widths = {len(row) if np.ndim(row) == 1 else np.shape(row) for row in rows}
    if len(widths) > 1 or not isinstance(next(iter(widths)), int):
        found = ", ".join(str(width) for width in sorted(widths, key=str)[:3])
        msg = f"{path}: its vectors have different shapes ({found}); all must be of one length."
        raise DataError(msg)
    if len(rows) != len(genes):
        msg = f"{path}: {len(genes):,} genes and {len(rows):,} vectors; each gene needs one."
        raise DataError(msg)
    vectors = np.asarray(rows, dtype=np.float32)
    if not vectors.shape[1]:
        msg = f"{path}: its vectors have no numbers; gene vectors are needed."
        raise DataError(msg)
    is_wrong = ~np.isfinite(vectors).all(axis=1)
    if is_wrong.any():
        first = genes[int(np.argmax(is_wrong))]
        msg = f"{path}: the vector of gene '{first}' has a number that is NaN or infinite ({is_wrong.sum():,} such); "
        raise DataError(msg + "leave such genes out.")
    seen: set[str] = set()
    for gene in genes:
        if gene in seen:
            msg = f"{path}: gene '{gene}' has two vectors; list each gene once."
            raise DataError(msg)
        seen.add(gene)
    return vectors


def is_flat(vectors: np.ndarray) -> np.ndarray:
    """Tell of each vector, shape (N, D), whether its numbers are all equal, such as zeros for a missing one; (N,)."""
    spread, size = vectors.std(axis=1), np.abs(vectors).max(axis=1)
    return np.asarray((spread <= _NO_SPREAD * size) if vectors.shape[1] > 1 else size == 0)


def _from_arrays(path: Path, arrays: Mapping[str, Any], names: Iterable[str]) -> tuple[list[str], Any]:
    """Return the genes and vectors of a mapping of arrays, in either layout."""
    there = list(names)
    genes = next((name for name in _GENES if name in there), None)
    matrix = next((name for name in _MATRIX if name in there), None)
    if genes is not None and matrix is not None:
        return _words(arrays[genes]), np.asarray(arrays[matrix])
    rows = [np.asarray(arrays[name]) for name in there]
    if any(row.ndim != 1 for row in rows):
        msg = (
            f"{path}: has the arrays {', '.join(there[:5])}; either one vector under each gene's name is needed, or "
            "'genes' and 'vectors'."
        )
        raise DataError(msg)
    return there, rows


def _words(values: Any) -> list[str]:
    flat = np.asarray(values[()] if hasattr(values, "dtype") and np.ndim(values) else values).reshape(-1)
    return [value.decode() if isinstance(value, bytes) else str(value) for value in flat.tolist()]


def _read_npz(path: Path) -> tuple[list[str], Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return _from_arrays(path, arrays, arrays.files)


def _read_safetensors(path: Path) -> tuple[list[str], Any]:
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        listed = (file.metadata() or {}).get("genes")
    if listed is not None:
        arrays["genes"] = np.array(json.loads(listed))
    return _from_arrays(path, arrays, arrays)


def _read_h5(path: Path) -> tuple[list[str], Any]:
    import h5py

    with h5py.File(path, "r") as file:
        return _from_arrays(path, {name: file[name][()] for name in file}, file)


def _read_parquet(path: Path) -> tuple[list[str], Any]:
    require("pyarrow", extra="parquet", why=f"Reading {path.name}")
    import pandas as pd

    return _from_table(path, pd.read_parquet(path, engine="pyarrow"))


def _read_csv(path: Path) -> tuple[list[str], Any]:
    import pandas as pd

    return _from_table(path, pd.read_csv(path, encoding="utf-8-sig"))


def _from_table(path: Path, table: Any) -> tuple[list[str], Any]:
    import pandas as pd

    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index()
    words = [name for name in table if not pd.api.types.is_numeric_dtype(table[name]) and _is_words(table[name])]
    if len(words) != 1:
        found = ", ".join(map(str, words)) or "none"
        msg = (
            f"{path}: columns of gene names: {found}; exactly one is needed, beside columns of numbers or one of lists."
        )
        raise DataError(msg)
    others = [name for name in table if name != words[0]]
    rows: Any = [np.asarray(row) for row in table[others[0]]] if len(others) == 1 else table[others].to_numpy()
    return [str(gene) for gene in table[words[0]]], rows


def _is_words(column: Any) -> bool:
    return len(column) > 0 and isinstance(column.iloc[0], str)


def _read_text(path: Path) -> tuple[list[str], Any]:
    genes, rows = [], []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            parts = line.split()
            is_heading = number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts)
            if not parts or is_heading:
                continue
            try:
                rows.append(np.array(parts[1:], dtype=np.float32))
            except ValueError:
                msg = f"{path}, line {number}: '{line.strip()[:40]}' is not a gene and its numbers; write one a line."
                raise DataError(msg) from None
            genes.append(parts[0])
    return genes, rows


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_READERS: dict[str, Callable[[Path], tuple[list[str], Any]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".txt": _read_text,
    ".vec": _read_text,
    ".w2v": _read_text,
    ".tsv": _read_text,
}
