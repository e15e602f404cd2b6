"""Settings of a network that edges are read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from scmodelforge.config.section import Section

__all__ = ["NetworkConfig"]


class NetworkConfig(Section):
    """A file of known edges; in a list of networks a plain path stands for one with these defaults."""

    path: str = Field(min_length=1)
    """Table of edges (csv, tsv, txt, parquet, packed with gzip or not), ``.gmt``, or a folder of such files."""
    name: str | None = None
    """Name in the results; ``None`` is the file's."""
    tf_column: str | None = None
    """Column of the transcription factor; ``None`` takes one that is named so."""
    target_column: str | None = None
    """Column of its target; several targets may stand in one cell, with commas."""
    sign_column: str | None = None
    """Column that says whether the factor activates (``1``, ``Activation``) or represses (``-1``, ``Repression``)."""
    confidence_column: str | None = None
    """Column that ``levels`` or ``min_score`` read."""
    levels: list[str] | None = Field(None, min_length=1)
    """Confidence levels that count, such as ``[A, B]`` of DoRothEA; ``None`` takes all."""
    min_score: float | None = None
    """Least confidence, where that is a number; ``None`` takes all edges."""
    sign: Literal["any", "activation", "repression"] = "any"
    """Edges that count; those of unknown sign count as ``any`` only."""

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """Name in the results."""
        return self.name or Path(self.path).name.partition(".")[0]
