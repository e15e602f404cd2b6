"""Settings of what reads a fine-tuned model: ``model.head``."""

from __future__ import annotations

from typing import ClassVar, Literal

from scmodelforge.config.section import Section

__all__ = ["HeadConfig"]


class HeadConfig(Section):
    """Settings of a head. A head subclasses them as its ``config_class``, with what the model must know of it."""

    #: Registered objective that makes its batches.
    objective: ClassVar[str] = "cell_type_annotation"
    #: Of each loss term what it is a mean over, as of :func:`~scmodelforge.config.cell_labels.counted_terms`.
    terms: ClassVar[dict[str, str]] = {}
    #: Settings of the model around it without which it cannot be made.
    sizes: ClassVar[tuple[str, ...]] = ()
    #: Settings that a run of fine-tuning fills in, and what they follow from.
    filled: ClassVar[dict[str, str]] = {}

    kind: str = "cell_types"
    """What the head predicts. Its other settings are those of this kind."""

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each loss term is a mean over, with these settings."""
        return dict(self.terms)

    @property
    def reads(self) -> Literal["cells", "first", "tokens"]:
        """What it reads of the backbone: embeddings of cells, hidden states of first tokens, or of all tokens."""
        return "cells"
