"""What is known of compounds and cell lines, added to cells through pertpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge._optional import require

__all__ = ["annotate"]


@dataclass(frozen=True)
class _Kind:
    """One kind of metadata: where pertpy has it, and what it reads from where."""

    tool: str
    method: str
    file: str | None
    url: str


_KINDS = {
    "moa": _Kind(
        "Moa",
        "annotate",
        "repurposing_drugs_20200324.txt",
        "https://s3.amazonaws.com/data.clue.io/repurposing/downloads/repurposing_drugs_20200324.txt",
    ),
    "cell_line": _Kind(
        "CellLine", "annotate", "depmap_23Q4_info.csv", "https://ndownloader.figshare.com/files/43746708"
    ),
    "compound": _Kind("Compound", "annotate_compounds", None, "https://pubchem.ncbi.nlm.nih.gov"),
}


def annotate(
    adata: Any,
    kind: Literal["moa", "cell_line", "compound"],
    *,
    column: str,
    cache: str | Path | None = None,
    **settings: Any,
) -> Any:
    """Add what is known of each cell's compound or cell line to ``obs``.

    ==============  ===================================================  =====================================
    kind            columns                                              from
    ==============  ===================================================  =====================================
    ``moa``         ``moa``, ``target``: mechanism and targets           Drug Repurposing Hub (clue.io), a file
    ``cell_line``   those of the table, or ``fetch=[...]`` of them       DepMap, a file
    ``compound``    ``pubchem_name``, ``pubchem_ID``, ``smiles``         PubChem, a request for each compound
    ==============  ===================================================  =====================================

    Files are fetched once. Without a network, put the file into ``cache`` yourself; what and where is said.

    Parameters
    ----------
    adata
        Cells, an AnnData object. It is not changed.
    kind
        What to add.
    column
        obs column with the names of compounds, or with ids of cell lines.
    cache
        Folder of fetched files; by default scanpy's ``settings.cachedir``.
    **settings
        Further settings of pertpy: ``target`` for ``moa``, ``reference_id`` and ``fetch`` for ``cell_line``,
        ``query_id_type`` for ``compound``.

    Returns
    -------
    A copy with more columns in ``obs``, missing for cells whose compound or cell line is unknown.

    Raises
    ------
    ConfigError
        If ``kind`` is unknown.
    DataError
        If the column is missing, none of its values is known, or what is needed can neither be found nor fetched.
    """
    if kind not in _KINDS:
        msg = f"kind is '{kind}'; it must be one of: {', '.join(_KINDS)}.{nearest(kind, _KINDS)}"
        raise ConfigError(msg)
    if column not in adata.obs:
        msg = f"obs has no column '{column}'.{nearest(column, adata.obs.columns)}"
        raise DataError(msg)
    pertpy = require("pertpy", extra="pert", why="Annotating perturbations")
    scanpy = require("scanpy", extra="pert", why="Annotating perturbations")
    found, what = adata.copy(), _KINDS[kind]
    found.obs[column] = found.obs[column].astype(object)  # pertpy's look-ups need plain text
    before = scanpy.settings.cachedir
    if cache is not None:
        scanpy.settings.cachedir = Path(cache)
    try:
        found = getattr(getattr(pertpy.md, what.tool)(), what.method)(found, query_id=column, **settings)
    except OSError as error:
        raise DataError(_unreachable(kind, what, Path(scanpy.settings.cachedir))) from error
    except ValueError as error:
        msg = f"obs column '{column}' cannot be annotated with '{kind}': {' '.join(str(error).split())}"
        raise DataError(msg) from error
    finally:
        scanpy.settings.cachedir = before
    found.obs[column] = adata.obs[column]
    return found


def _unreachable(kind: str, what: _Kind, folder: Path) -> str:
    if what.file is None:
        return f"kind '{kind}' asks {what.url} for each compound, which cannot be reached; run it with a network."
    place = folder / what.file
    return f"kind '{kind}' needs {what.url}, which cannot be reached; fetch it elsewhere and save it as {place}."
