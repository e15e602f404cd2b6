"""Whether a file is what the registry says of it, by its tables alone: nothing large is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError, listed
from scmodelforge.datasets.entries import DatasetInfo

__all__ = ["check_contents", "differences"]

_LISTED = 12


def check_contents(file: Path, data: DatasetInfo, *, origin: str | None = None) -> None:
    """Refuse a file that is no whole AnnData, or lacks an obs column the registry names.

    Parameters
    ----------
    file
        The file.
    data
        What it must be.
    origin
        What messages call it; ``None`` is its path.

    Raises
    ------
    DataError
        If it is another file.
    """
    shown = origin or str(file)
    try:
        columns, _ = _facts(file)
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError) as problem:
        reason = " ".join(str(problem).split())
        msg = f"{shown} is damaged or no .h5ad file ({reason:.120}); get {data.where or 'it'} again."
        raise DataError(msg) from problem
    missing = [column for column in data.columns if column not in columns]
    if missing:
        msg = (
            f"{shown} has no obs column '{missing[0]}', so it is not the file that '{data.name}' stands for; get "
            f"{data.where or 'that one'}, or use yours by its path. It has: {listed(columns, _LISTED)}."
        )
        raise DataError(msg)


def differences(file: Path, data: DatasetInfo) -> list[str]:
    """Return a line if the size of a file that passed :func:`check_contents` is not the published one."""
    _, shape = _facts(file)
    expected = (data.cells, data.genes)
    if shape is None or all(wanted in (None, found) for wanted, found in zip(expected, shape, strict=True)):
        return []
    wanted_text = " x ".join("any" if each is None else f"{each:,}" for each in expected)
    return [
        f"note: {data.name} has {shape[0]:,} cells x {shape[1]:,} genes, {wanted_text} were expected: the data differ "
        "from the published ones, so scores may not compare"
    ]


def _facts(file: Path) -> tuple[list[str], tuple[int, int] | None]:
    """Return the obs columns, and cells and genes where they are known from the tables."""
    import h5py

    with h5py.File(file, "r") as root:
        obs, var = root["obs"], root["var"]
        if isinstance(obs, h5py.Dataset):  # written by anndata before 0.7: a table of records
            columns = [name for name in obs.dtype.names or () if name not in ("index", "_index")]
        else:
            columns = [_text(name) for name in obs.attrs.get("column-order", list(obs))]
        cells, genes = _length(obs), _length(var)
    return columns, None if cells is None or genes is None else (cells, genes)


def _length(table: Any) -> int | None:
    if hasattr(table, "shape"):
        return int(table.shape[0])
    index = table[_text(table.attrs.get("_index", "_index"))]
    if not hasattr(index, "shape"):  # pandas 3: names are strings that may be missing, stored with a mask
        index = index.get("values", index.get("codes"))
    return None if index is None else int(index.shape[0])


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
