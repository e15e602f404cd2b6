"""Baselines of a model on the cells it is scored on, by their names: one maker for every kind of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.eval.baselines import hvg_embedding, pca_embedding, random_embedding
from scmodelforge.workflows.scvi_baseline import FittedCells, check_scvi, scvi_embedding

__all__ = ["BASELINES", "BaselineCells", "baseline_embeddings", "check_baselines", "in_order", "need_counts", "pca_of"]

#: All baselines, in the order of tables. The last is trained, and needs the extra ``scvi``.
BASELINES = ("pca", "hvg", "random", "untrained", "scvi")

_FROM_COUNTS = frozenset({"pca", "hvg", "scvi"})
_PCA_COMPONENTS = 50


class BaselineCells(FittedCells, Protocol):
    """Cells that baselines are fitted on, then cells that are scored."""

    @property
    def positions(self) -> np.ndarray:
        """Number of each cell, shape (n,), which no other has."""


def check_baselines(names: Sequence[str]) -> None:
    """Make sure that baselines are known, and that what they need is installed.

    Raises
    ------
    ConfigError
        If there is no such baseline, or none is named.
    ImportError
        If scvi-tools is needed and not installed.
    """
    if not names:
        msg = f"no baseline is named; a score says little without one. There are: {', '.join(BASELINES)}."
        raise ConfigError(msg)
    for name in names:
        if name not in BASELINES:
            msg = f"unknown baseline '{name}'.{nearest(name, BASELINES)} There are: {', '.join(BASELINES)}."
            raise ConfigError(msg)
    if "scvi" in names:
        check_scvi()


def in_order(names: Iterable[str]) -> list[str]:
    """Return the baselines that are asked for, in the order of tables."""
    asked = set(names)
    return [name for name in BASELINES if name in asked]


def need_counts(names: Iterable[str]) -> bool:
    """Tell whether some baselines are made of counts."""
    return bool(_FROM_COUNTS & set(names))


def pca_of(cells: BaselineCells, counts: Any) -> np.ndarray:
    """Return principal components of the counts, fitted on the training cells."""
    return pca_embedding(counts, num_train=cells.num_train, n_components=_PCA_COMPONENTS, seed=cells.seed)


def baseline_embeddings(
    names: Iterable[str], cells: BaselineCells, counts: Any, *, width: int, untrained: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the embeddings of baselines by name, each shape (n, ...).

    Parameters
    ----------
    names
        Some of :data:`BASELINES`.
    cells
        The cells, training cells first.
    counts
        Their counts, CSR (n, G); ``None`` is enough for baselines that are not made of any.
    width
        Columns of noise.
    untrained
        What the model before training makes of the cells, if that is one of the baselines.
    """
    makers: dict[str, Callable[[], Any]] = {
        "pca": lambda: pca_of(cells, counts),
        "hvg": lambda: hvg_embedding(counts, num_train=cells.num_train),
        "random": lambda: random_embedding(cells.positions, width, seed=cells.seed),
        "untrained": lambda: untrained,
        "scvi": lambda: scvi_embedding(cells, counts),
    }
    return {name: makers[name]() for name in names}
