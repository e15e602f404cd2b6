"""Settings that a task of fine-tuning begins with: ``configs/recipes/TASK.yaml``, which the package brings along."""

from __future__ import annotations

from pathlib import Path

import scmodelforge
from scmodelforge._registry import TASKS

__all__ = ["recipe_of"]


def recipe_of(task: str) -> Path | None:
    """Return the settings file of a task; ``None`` of a task without one, such as a plugin's.

    Raises
    ------
    ConfigError
        If there is no such task.
    """
    TASKS.get(task)
    package = Path(scmodelforge.__file__).parent
    # Installed from a wheel the recipes lie in the package; in a checkout there is one copy of them only.
    for folder in (package / "recipes", package.parents[1] / "configs" / "recipes"):
        if (folder / f"{task}.yaml").is_file():
            return folder / f"{task}.yaml"
    return None
