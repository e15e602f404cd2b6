"""Perturb-seq metadata: columns found by convention, guides assigned, responding cells told, annotations added.

What comes out are obs columns that ``data.filter``, ``data.split.by`` and ``data.sampling.by`` take as any other.
:func:`find_perturbation_columns` and :func:`targets_of` need no further package, the rest needs pertpy (extra ``pert``;
Heumos et al. 2025, doi:10.1038/s41592-025-02909-7). Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmodelforge.data.perturbation.columns import (
        PerturbationColumns,
        columns_of_source,
        find_perturbation_columns,
        is_control,
        targets_of,
    )
    from scmodelforge.data.perturbation.guides import assign_guides
    from scmodelforge.data.perturbation.metadata import annotate
    from scmodelforge.data.perturbation.responders import mixscape

__all__ = [
    "PerturbationColumns",
    "annotate",
    "assign_guides",
    "columns_of_source",
    "find_perturbation_columns",
    "is_control",
    "mixscape",
    "targets_of",
]

_HOME_OF = {"annotate": "metadata", "assign_guides": "guides", "mixscape": "responders"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME_OF.get(name, 'columns')}"), name)
