"""Users' own regions: read from NPZ, from AnnData, or from CSV tables.

===============  ====================  ==========================  ====================================================
file             expression            connectivity                places and labels
===============  ====================  ==========================  ====================================================
``.npz``         ``expression``        the array named ``target``  ``coords``; ``genes``, ``regions``, ``network``,
                                                                   ``hemisphere``
``.h5ad/.zarr``  ``X``, regions as     ``obsp[target]``            ``obsm["coords"]`` or ``obsm["spatial"]``;
                 obs, genes as var                                 ``obs["network"]``, ``obs["hemisphere"]``
``.csv/.tsv``    a row for each        the file ``target``         the file ``coords``: a row for each region, with
                 region                                            columns x, y, z, and ``network``, ``hemisphere``
===============  ====================  ==========================  ====================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed, nearest
from scmodelforge.connectome import _checks
from scmodelforge.connectome._file_faults import Source, refuse_direction, refuse_missing, refuse_turned
from scmodelforge.connectome.regions import Regions, without_missing
from scmodelforge.connectome.tables import read_tables

__all__ = ["read_expression", "read_regions"]

_LISTED = 5
_KINDS = "npz, h5ad, zarr, csv or tsv"
_COORDS = ("coords", "spatial")  # the names under which coordinates are looked for, the first that there is
_LABELS = {"networks": "network", "hemispheres": "hemisphere"}


def read_regions(
    path: str | Path,
    target: str | Path | None = None,
    *,
    coords: str | Path | None = None,
    missing: str = "refuse",
    directed: bool = False,
) -> Regions:
    """Read the regions of one atlas.

    Parameters
    ----------
    path
        File of expression, and of the rest but for CSV; see the table above.
    target
        Which connectivity: the name of an array or of an entry of ``obsp``, which may be left out if there is but
        one; for CSV the file of it.
    coords
        For CSV, the file of places; for others the name they have, where it is another one.
    missing
        ``refuse`` regions with missing values, or ``drop`` them and say which.
    directed
        Whether connectivity has a direction. If it has none, a matrix that is not symmetric is refused.

    Returns
    -------
    Regions; ``.pairs()`` makes the data set of them.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If an argument is wrong.
    DataError
        (a ``ValueError``) If a file is missing, damaged, or does not hold what is needed.
    """
    return _read(Path(path), _Wanted(target), coords, missing=missing, directed=directed)


def read_expression(path: str | Path, *, coords: str | Path | None = None, missing: str = "refuse") -> Regions:
    """Read regions whose connectivity is to be predicted: as :func:`read_regions`, with no connectivity, ``Y`` zero.

    Raises
    ------
    ConfigError, DataError
        As of :func:`read_regions`.
    """
    return _read(Path(path), _Wanted(None, is_needed=False), coords, missing=missing, directed=False)


class _Wanted(NamedTuple):
    """Which connectivity is read of a file, if any is."""

    name: str | Path | None
    is_needed: bool = True


def _read(path: Path, target: _Wanted, coords: str | Path | None, *, missing: str, directed: bool) -> Regions:
    if missing not in ("refuse", "drop"):
        msg = f"missing is {missing!r}; 'refuse' or 'drop' is needed."
        raise ConfigError(msg)
    if not path.exists():
        msg = f"no file '{path}'; a file of regional expression is needed: {_KINDS}."
        raise DataError(msg)
    if path.suffix in (".csv", ".tsv"):
        parts = read_tables(path, target.name, coords, needs_target=target.is_needed)
    elif path.suffix in _READERS:
        parts = _READERS[path.suffix](path, target, coords)
    else:
        msg = f"'{path.name}' is not read; regional expression is needed as {_KINDS}."
        raise DataError(msg)
    table = _checked(path, parts)
    if missing == "drop":
        table = without_missing(table)
    refuse_missing(parts["sources"], table)
    if not directed:
        refuse_direction(parts["sources"]["Y"], table)
    return table


def _checked(path: Path, parts: Mapping[str, Any]) -> Regions:
    """Return the parts of a file as one thing, after their shapes and names were compared."""
    try:
        x = _checks.numbers(parts["X"], "expression", (None, None), "regions x genes")
        y = np.zeros((len(x), len(x)), dtype=np.float32) if parts["Y"] is None else parts["Y"]
        y = _checks.numbers(y, "connectivity", (len(x), len(x)), "regions x regions")
        at = parts.get("coords")
        at = None if at is None else _checks.numbers(at, "coords", (len(x), 3), "regions x (x, y, z)")
        genes = _checks.checked_names(parts.get("genes"), "genes", x.shape[1], needs="a column of expression")
        names = _checks.checked_names(parts.get("regions"), "regions", len(x), needs="a row of expression")
        labels = {name: _checks.checked_labels(parts.get(name), name, len(x)) for name in _LABELS}
    except DataError as fault:
        msg = f"{path}: {fault}"
        raise DataError(msg) from fault
    return Regions(
        X=x,
        Y=y,
        coords=at,
        genes=genes,
        regions=names,
        valid2true_mapping={row: row for row in range(len(x))},
        dataset=path.stem,
        parcellation=f"{path.stem}, {len(x)} regions",
        **labels,
    )


def _read_npz(path: Path, target: _Wanted, coords: str | Path | None) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as problem:  # damaged archives fail in many ways, and arrays of objects in one more
        msg = f"{path}: not readable as npz of plain arrays ({' '.join(str(problem).split())})."
        raise DataError(msg) from problem
    if "expression" not in arrays:
        msg = f"{path}: has no array 'expression' but {listed(sorted(arrays), _LISTED)}; regions x genes is needed."
        raise DataError(msg)
    refuse_turned(path, arrays, None if target.name is None else str(target.name))
    size = len(arrays["expression"]) if arrays["expression"].ndim else 0
    matrices = [
        name for name, array in arrays.items() if array.shape == (size, size) and name not in ("expression", "coords")
    ]
    name = _named(path, target.name, list(arrays), matrices, "array") if target.is_needed else None
    return {
        "X": arrays["expression"],
        "Y": None if name is None else arrays[name],
        "coords": _coordinates(path, arrays, coords),
        "sources": _sources(path, "expression", f"connectivity '{name}'"),
        "genes": arrays.get("genes"),
        "regions": arrays.get("regions"),
        **{part: arrays.get(name) for part, name in _LABELS.items()},
    }


def _read_anndata(path: Path, target: _Wanted, coords: str | Path | None) -> dict[str, Any]:
    import anndata

    try:
        adata = anndata.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)
    except Exception as problem:
        msg = f"{path}: not readable as AnnData ({' '.join(str(problem).split())})."
        raise DataError(msg) from problem
    names = list(adata.obsp)
    name = _named(path, target.name, names, names, "entry of obsp") if target.is_needed else None
    return {
        "X": _dense(adata.X),
        "Y": None if name is None else _dense(adata.obsp[name]),
        "coords": _coordinates(path, adata.obsm, coords),
        "sources": _sources(path, "X", f"connectivity '{name}'"),
        "genes": adata.var_names.tolist(),
        "regions": adata.obs_names.tolist(),
        **{part: adata.obs[name].tolist() if name in adata.obs else None for part, name in _LABELS.items()},
    }


def _named(path: Path, wanted: str | Path | None, there: Sequence[str], matrices: Sequence[str], what: str) -> str:
    """Return the name of the connectivity: that asked for, or the only one."""
    target = None if wanted is None else str(wanted)
    if target is not None and target in there:
        return target
    found = listed(sorted(matrices), _LISTED) or "none"
    if target is not None:
        hint = nearest(target, matrices) or _beside_tables(target)
        msg = f"{path}: has no {what} '{target}'.{hint} Matrices of regions x regions in it: {found}."
        raise DataError(msg)
    if len(matrices) != 1:
        msg = (
            f"{path}: connectivity is {what} {found}; target must name one matrix of regions x regions, as "
            "target='NAME'."
        )
        raise DataError(msg)
    return matrices[0]


def _coordinates(path: Path, there: Mapping[str, Any], wanted: str | Path | None) -> Any | None:
    """Return the coordinates under the name asked for, or the first usual one; ``None`` if there are none."""
    if wanted is not None and str(wanted) not in there:
        msg = f"{path}: has no coordinates '{wanted}' but {listed(sorted(there), _LISTED) or 'nothing'}."
        msg += _beside_tables(str(wanted))
        raise DataError(msg)
    name = str(wanted) if wanted is not None else next((each for each in _COORDS if each in there), None)
    return None if name is None else there[name]


def _beside_tables(wanted: str) -> str:
    """Return a hint if a file is named where a name of something in a file is needed, or nothing."""
    is_file = Path(wanted).suffix in (".csv", ".tsv")
    return " A file of its own is read only if expression is csv or tsv as well." if is_file else ""


def _sources(path: Path, expression: str, connectivity: str) -> dict[str, Source]:
    """Return where the parts of one file come from."""
    return {"X": Source(path, expression), "Y": Source(path, connectivity), "coords": Source(path, "coordinates")}


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


_READERS = {".npz": _read_npz, ".h5ad": _read_anndata, ".zarr": _read_anndata}
