"""Weights of published models, read from the files they are published in."""

from __future__ import annotations

from scmodelforge.models.published.geneformer import load_geneformer

__all__ = ["load_geneformer"]
