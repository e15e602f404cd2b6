"""Real cells known by name: some come with the package, others are fetched."""

from __future__ import annotations

from scmodelforge.datasets.entries import DatasetInfo, SplitRecipe
from scmodelforge.datasets.fetching import fetch
from scmodelforge.datasets.registry import info, list_datasets, load, path

__all__ = ["DatasetInfo", "SplitRecipe", "fetch", "info", "list_datasets", "load", "path"]
