"""The genes that predictions and measured cells share."""

from __future__ import annotations

from collections import Counter
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
        layers = ", ".join(f"'{name}'" for name in adata.layers if name is not None)
        there = f"its layers are {layers}" if layers else "it has no layers either"
        msg = f"the {origin} have no X, and values are read from X alone; {there}: set adata.X to them and write again."
        raise DataError(msg)


def shared_genes(real: Any, predicted: Any) -> SharedGenes:
    """Align the genes of two files: by name, and those left by what their names stand for.

    Of the latter only a gene that each file has once is taken; where it stands under several names in a file, it is not
    known which of them is meant, and they count as not in both.

    Raises
    ------
    DataError
        If a file names a gene twice, or they have none in common.
    """
    names = [[str(name) for name in each.var_names] for each in (real, predicted)]
    for own, origin in zip(names, ("real data (--data)", "predictions"), strict=True):
        if len(set(own)) < len(own):
            twice = next(name for name, count in Counter(own).items() if count > 1)
            msg = f"two genes of the {origin} have the name '{twice}'; name each once (var_names_make_unique)."
            raise DataError(msg)
    pairs = _pairs(*names)
    if not pairs:
        msg = (
            f"the predictions have none of the genes of the real data: {', '.join(names[1][:3])}, ... against "
            f"{', '.join(names[0][:3])}, ...; give both the same var_names."
        )
        raise DataError(msg)
    genes, real_columns, predicted_columns = zip(*pairs, strict=True)
    return SharedGenes(
        np.array(real_columns, dtype=np.int64),
        np.array(predicted_columns, dtype=np.int64),
        genes=genes,
        num_missing=len(names[0]) - len(pairs),
        num_extra=len(names[1]) - len(pairs),
    )


def _pairs(real: list[str], predicted: list[str]) -> list[tuple[str, int, int]]:
    """Return key and columns of each gene that both files have, sorted by key, whatever the files call them."""
    columns = [{name: place for place, name in enumerate(own)} for own in (real, predicted)]
    keys = [[gene_key(name) for name in own] for own in (real, predicted)]
    named = [name for name in real if name in columns[1]]
    pairs = [(gene_key(name), columns[0][name], columns[1][name]) for name in named]
    once = [
        {key: place for place, key in enumerate(own) if counts[key] == 1}
        for own, counts in ((own, Counter(own)) for own in keys)
    ]
    taken = {key for key, _, _ in pairs}
    pairs += [(key, once[0][key], once[1][key]) for key in once[0].keys() & once[1].keys() if key not in taken]
    return sorted(pairs, key=lambda pair: (pair[0], real[pair[1]]))
