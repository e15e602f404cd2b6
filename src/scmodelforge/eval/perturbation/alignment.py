"""The genes that predictions and measured cells share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.perturbation.conditions import gene_key

__all__ = ["SharedGenes", "check_stored", "shared_genes"]


@dataclass(frozen=True)
class SharedGenes:
    """Genes that both files have.

    Attributes
    ----------
    real, predicted
        Their columns in each file, shape (G,).
    genes
        Their names, sorted.
    num_missing
        Measured genes that are not predicted.
    num_extra
        Predicted genes that are not measured.
    """

    real: np.ndarray
    predicted: np.ndarray
    genes: tuple[str, ...]
    num_missing: int
    num_extra: int


def check_stored(adata: Any, origin: str) -> None:
    """Make sure that a file has the values that are scored.

    Raises
    ------
    DataError
        If it has no ``X``.
    """
    if adata.X is None:
        layers = ", ".join(f"'{name}'" for name in adata.layers)
        there = f"its layers are {layers}" if layers else "it has no layers either"
        msg = f"the {origin} have no X, and values are read from X alone; {there}: set adata.X to them and write again."
        raise DataError(msg)


def shared_genes(real: Any, predicted: Any) -> SharedGenes:
    """Align the genes of two files by name, or by what both names stand for.

    Raises
    ------
    DataError
        If a file names a gene twice, or they have none in common.
    """
    names = [[str(name) for name in each.var_names] for each in (real, predicted)]
    for own, origin in zip(names, ("real data (--data)", "predictions"), strict=True):
        if len(set(own)) < len(own):
            twice = next(name for name in own if own.count(name) > 1)
            msg = f"two genes of the {origin} have the name '{twice}'; name each once (var_names_make_unique)."
            raise DataError(msg)
    if not set(names[0]) & set(names[1]):
        keys = [[gene_key(name) for name in own] for own in names]
        if not set(keys[0]) & set(keys[1]):
            msg = (
                f"the predictions have none of the genes of the real data: {', '.join(names[1][:3])}, ... against "
                f"{', '.join(names[0][:3])}, ...; give both the same var_names."
            )
            raise DataError(msg)
        names = keys
    places = [{name: place for place, name in reversed(list(enumerate(own)))} for own in names]
    shared = sorted(places[0].keys() & places[1].keys())
    real_columns, predicted_columns = (np.array([each[name] for name in shared], dtype=np.int64) for each in places)
    return SharedGenes(
        real_columns,
        predicted_columns,
        genes=tuple(gene_key(name) for name in shared),
        num_missing=len(places[0]) - len(shared),
        num_extra=len(places[1]) - len(shared),
    )
