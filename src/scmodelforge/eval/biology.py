"""The labelled held-out cells, and the seeds and names of what scores them."""

from __future__ import annotations

from functools import cache

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import mix
from scmodelforge.eval.base import BenchmarkInputs
from scmodelforge.eval.cells import Cells

__all__ = ["column_of", "labelled", "sklearn_seed", "sklearn_version"]


def labelled(benchmark: str, inputs: BenchmarkInputs) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Return the held-out cells that have a label, in an order of their own, their codes and the label names."""
    cells = inputs.heldout.in_order()
    labels = column_of(cells, "label", benchmark, inputs)
    has_label = labels != ""
    if not has_label.any():
        msg = f"benchmark '{benchmark}': none of the {len(cells):,} held-out cells of '{inputs.dataset}' has a label."
        raise DataError(msg)
    names, codes = np.unique(labels[has_label], return_inverse=True)
    return cells.select(has_label), codes, names


def column_of(cells: Cells, column: str, benchmark: str, inputs: BenchmarkInputs) -> np.ndarray:
    """Return the labels or batches of cells.

    Raises
    ------
    DataError
        If there is no such column.
    """
    found = cells.labels if column == "label" else cells.batches
    if found is None:
        msg = (
            f"benchmark '{benchmark}' needs a {column} for the cells of '{inputs.dataset}'; "
            f"set data.{column}_column (or '{column}' of the benchmark) to an obs column."
        )
        raise DataError(msg)
    return found


def sklearn_seed(seed: int, purpose: str) -> int:
    """Return a seed that scikit-learn takes (below 2**32)."""
    return int(mix(seed, purpose)) % 2**32


@cache
def sklearn_version() -> str:
    """Return the name and version of scikit-learn, for records."""
    from importlib.metadata import version

    return f"scikit-learn {version('scikit-learn')}"
