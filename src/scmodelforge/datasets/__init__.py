"""Real cells to try everything on, without a download."""

from __future__ import annotations

from scmodelforge.datasets.registry import DatasetInfo, info, list_datasets, load, path

__all__ = ["DatasetInfo", "info", "list_datasets", "load", "path"]
