"""Weights of published models, read from the files they are published in."""

from __future__ import annotations

from scmodelforge.models.published._files import read_tensors
from scmodelforge.models.published.geneformer import load_geneformer, open_geneformer
from scmodelforge.models.published.geneformer_classifier import load_geneformer_classifier
from scmodelforge.models.published.scgpt import load_scgpt, load_scgpt_vocab, open_scgpt
from scmodelforge.models.published.transcriptformer import load_transcriptformer

__all__ = [
    "load_geneformer",
    "load_geneformer_classifier",
    "load_scgpt",
    "load_scgpt_vocab",
    "load_transcriptformer",
    "open_geneformer",
    "open_scgpt",
    "read_tensors",
]
