"""Labels of two data sets made comparable, for the transfer of one's labels to the other's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError

__all__ = ["SharedLabels", "renamed_sizes", "share_labels", "transfer_name"]


@dataclass(frozen=True)
class SharedLabels:
    """Labels of both data sets under common names.

    Attributes
    ----------
    reference, query
        Label of each cell, shape (n,), str, empty where missing.
    both, only_reference, only_query
        Names that both have, and those of one alone.
    """

    reference: np.ndarray
    query: np.ndarray
    both: list[str]
    only_reference: list[str]
    only_query: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the names as records have them."""
        return {
            "labels_in_both": self.both,
            "labels_of_reference_only": self.only_reference,
            "labels_of_query_only": self.only_query,
        }


def share_labels(reference: np.ndarray, query: np.ndarray, mapping: Mapping[str, str]) -> SharedLabels:
    """Rename labels, then match them by their exact names.

    Parameters
    ----------
    reference, query
        Label of each cell, shape (n,), str, empty where missing.
    mapping
        New names of labels of either data set.

    Raises
    ------
    ConfigError
        If a label to rename stands in neither, or no label is left that both have.
    """
    known = set(np.unique(reference)) | set(np.unique(query))
    unknown = sorted(set(mapping) - known)
    if unknown:
        msg = (
            f"label_transfer: mapping names the label '{unknown[0]}', which neither data set has; the left side is a "
            f"label as it stands in one of them: {', '.join(sorted(known - {''}))}."
        )
        raise ConfigError(msg)
    reference, query = (_renamed(labels, mapping) for labels in (reference, query))
    ours, theirs = (set(np.unique(labels).tolist()) - {""} for labels in (reference, query))
    if not ours & theirs:
        msg = (
            f"label_transfer: no label of the query ({', '.join(sorted(theirs)) or 'none'}) is one of the reference "
            f"({', '.join(sorted(ours)) or 'none'}); name what is the same in 'mapping'."
        )
        raise ConfigError(msg)
    return SharedLabels(reference, query, sorted(ours & theirs), sorted(ours - theirs), sorted(theirs - ours))


def renamed_sizes(sizes: Mapping[str, int], mapping: Mapping[str, str]) -> dict[str, int]:
    """Return numbers of cells by label under the names that :func:`share_labels` gives."""
    found: dict[str, int] = {}
    for name, number in sizes.items():
        found[mapping.get(name, name)] = found.get(mapping.get(name, name), 0) + number
    return found


def transfer_name(reference: str, query: str) -> str:
    """Return the name that two data sets, or files, have together in results."""
    return f"{Path(reference).stem}_to_{Path(query).stem}"


def _renamed(labels: np.ndarray, mapping: Mapping[str, str]) -> np.ndarray:
    names, codes = np.unique(labels, return_inverse=True)
    return np.array([mapping.get(str(name), str(name)) for name in names], dtype=str)[codes]
