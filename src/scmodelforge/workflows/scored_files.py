"""AnnData files of predicted and of measured perturbations, read without what is never scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError, DataError, listed, nearest

__all__ = ["read_scored", "with_one_control"]

_NOT_SCORED = frozenset({"layers", "obsm", "obsp", "raw", "uns", "varm", "varp"})


def read_scored(path: Path, option: str) -> Any:
    """Return an AnnData of a file.

    Raises
    ------
    ConfigError, DataError
        If there is no such file, or it cannot be read; the message names the option.
    """
    if not path.is_file():
        msg = f"{option}: no file '{path}'; correct the path."
        raise ConfigError(msg)
    try:
        return _scored_parts(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as problem:  # as anndata tells of what is none
        msg = f"{option}: {path} cannot be read as an .h5ad file ({' '.join(str(problem).split())}); name another."
        raise DataError(msg) from problem


def _scored_parts(path: Path) -> Any:
    """Return an AnnData of a file without what is never scored, which is often more than what is."""
    import h5py
    from anndata.experimental import read_dispatched

    def only_scored(read: Any, place: str, item: Any, *, iospec: Any) -> Any:
        is_part = place.strip("/") in _NOT_SCORED
        return ({} if place.strip("/") != "raw" else None) if is_part else read(item)

    with h5py.File(path) as file:
        # Of one without X the message names the layers; of one of an old form anndata knows the parts.
        if "X" not in file or "encoding-type" not in file.attrs:
            import anndata as ad

            return ad.read_h5ad(path)
        return read_dispatched(file, only_scored)


def with_one_control(real: Any, others: Sequence[Any], condition: str, controls: Sequence[str]) -> str:
    """Give the controls of a screen, such as pools of guides, one name in all files, and return it.

    Parameters
    ----------
    real, others
        AnnData of what was measured, and of predictions; changed in place.
    condition
        obs column with the perturbation.
    controls
        Values that mean control; the first is the name.

    Raises
    ------
    ConfigError
        If no measured cell has one of them.
    """
    name, *more = dict.fromkeys(controls)
    if not more or condition not in real.obs:  # of a column that is not there the files' reader tells
        return name
    there = sorted(set(real.obs[condition].dropna().astype(str)))
    for value in (name, *more):
        if value not in there:
            msg = f"no cell has the condition '{value}' (--control).{nearest(value, there)} There are: "
            raise ConfigError(f"{msg}{listed(there, 5)}.")
    for adata in (real, *others):
        if condition in adata.obs:
            values = adata.obs[condition].astype(object)
            adata.obs[condition] = values.mask(values.astype(str).isin(more), name)
    return name
