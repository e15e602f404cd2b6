"""Models: from tokens of cells to predictions and embeddings."""

from __future__ import annotations

from scmodelforge.models._utils import count_parameters, init_weights, required_vocab_size
from scmodelforge.models.autoregressive import AutoregressiveTransformer
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.filling import FilledCells
from scmodelforge.models.gene_pooling import GenePoolingModel
from scmodelforge.models.generation import GeneratedCells
from scmodelforge.models.masked_autoencoder import MaskedAutoencoder
from scmodelforge.models.protocol import ModelOutput, ScModelForgeModel
from scmodelforge.models.registry import get_model, list_models, register_model
from scmodelforge.models.scdiva import ScDiVa
from scmodelforge.models.scgpt import ScGPT
from scmodelforge.models.transcriptformer import TranscriptFormer
from scmodelforge.models.transformer_encoder import TransformerEncoder

__all__ = [
    "AutoregressiveTransformer",
    "FilledCells",
    "GenePoolingModel",
    "GeneratedCells",
    "MaskedAutoencoder",
    "ModelOutput",
    "ScDiVa",
    "ScGPT",
    "ScModelForgeModel",
    "TranscriptFormer",
    "TransformerConfig",
    "TransformerEncoder",
    "count_parameters",
    "get_model",
    "init_weights",
    "list_models",
    "register_model",
    "required_vocab_size",
]
