"""What a task holds out beside cells, divided into folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["TaskFolds"]


@dataclass(frozen=True)
class TaskFolds:
    """Folds of what a task holds out and scores, such as genes.

    Attributes
    ----------
    held_out
        What is divided, in words.
    chosen_on
        What ``val/...`` of a run is of, in words.
    own
        Settings of section ``finetune`` that say what is held out.
    parts
        What each fold changes in the settings.
    """

    held_out: str
    chosen_on: str
    own: tuple[str, ...]
    parts: list[dict[str, Any]]
