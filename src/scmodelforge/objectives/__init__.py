"""Objectives: from tokens to batches with something to predict."""

from __future__ import annotations

from scmodelforge.objectives.base import Collator, get_objective, list_objectives, register_objective
from scmodelforge.objectives.collate import collate_for_encoding, pad

__all__ = [
    "Collator",
    "collate_for_encoding",
    "get_objective",
    "list_objectives",
    "pad",
    "register_objective",
]
