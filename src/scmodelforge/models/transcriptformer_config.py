"""Settings of the model of TranscriptFormer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge.models.config import TransformerConfig

__all__ = ["TranscriptFormerConfig"]


class TranscriptFormerConfig(TransformerConfig):
    """Settings of the model of TranscriptFormer."""

    norm_placement: Literal["pre", "post", "stream"] = "stream"
    """Where blocks normalise: ``stream`` before each branch, which is added to what was normalised."""
    layer_norm_eps: float = Field(1e-5, gt=0)
    """Epsilon of the layer norms."""
    gene_order: Literal["random", "given"] = "random"
    """Order in which genes are named: drawn for each cell and pass, or as the tokenizer gives them."""
    soft_cap: float | None = Field(10.0, gt=0)
    """Most that scores of attention and of genes may be, reached softly; ``None`` does not bound them."""
    vector_dim: int | None = Field(None, gt=0)
    """Width of the vectors of genes; given ones of another are projected to it. ``None`` is ``hidden_dim``."""
    head_dim: int | None = Field(None, gt=0)
    """Width inside the head that scores genes; ``None`` is ``hidden_dim``."""
    num_assays: int | None = Field(None, gt=1)
    """Number of assays, the unknown one (0) included; ``None`` has no token for them."""
    count_rates: Literal["own", "shares"] = "own"
    """``own`` gives the rate of a count from what is before the gene and the gene; ``shares`` is the published form, a
    share of all counts of the cell, which knows of the count it is asked for (see the head of the model's file)."""
    own_counts_when_encoding: bool = False
    """Let a token's count add to its attention to itself in ``encode``, as published models are used, though not
    trained."""

    @property
    def unread_settings(self) -> dict[str, str]:
        """Settings that the others leave without effect, and why."""
        return {"num_assays": "in a run, which brings no assays; give them from Python (assay_ids)"}
