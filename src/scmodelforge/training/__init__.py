"""The training layer on Lightning Fabric: loop, optimiser, checkpoints, metrics. Names are loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Callback": "run",
    "CellDataset": "dataset",
    "Checkpoints": "checkpoint",
    "MetricsLog": "metrics",
    "Objective": "objective",
    "Progress": "run",
    "Run": "run",
    "build_optimizer": "optim",
    "build_scheduler": "schedules",
    "fit": "loop",
    "make_fabric": "setup",
    "parameter_groups": "optim",
    "seed_everything": "setup",
    "terminal_reporter": "progress",
    "validate": "loop",
}

#: Names that need the package lightning; `import *` must work without it.
_HOMES_WITH_LIGHTNING = {"CellDataModule": "datamodule", "ScviDataModule": "scvi"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _HOMES_WITH_LIGHTNING.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{home}"), name)
