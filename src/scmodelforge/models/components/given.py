"""Gene vectors and the use of values as a tokenizer asks for them, put into a model that was made without."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.constants import PAD_TOKEN, SPECIAL_TOKENS
from scmodelforge.data.types import EmbeddingSpec
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding
from scmodelforge.models.components.gene_vectors import GeneVectorEmbedding
from scmodelforge.models.components.heads import TiedLinear
from scmodelforge.models.components.values import AutoBinEmbedding

__all__ = ["GivenGeneEmbedding", "apply_embedding_spec"]

_PAD_ID = SPECIAL_TOKENS.index(PAD_TOKEN)


class GivenGeneEmbedding(nn.Module):
    """Gene embedding with given vectors for some tokens and learned ones for the others.

    Vectors of another width than the model's go through a learned linear projection.

    Parameters
    ----------
    spec
        The vectors.
    hidden_dim
        Width H of the embedding.
    """

    known: torch.Tensor

    def __init__(self, spec: EmbeddingSpec, hidden_dim: int) -> None:
        super().__init__()
        assert spec.vectors is not None
        assert spec.known is not None
        vocab_size, width = spec.vectors.shape
        vectors = torch.as_tensor(spec.vectors, dtype=torch.float32).clone()
        self.given = nn.Embedding.from_pretrained(vectors, freeze=not spec.trainable)
        self.projection = nn.Identity() if width == hidden_dim else nn.Linear(width, hidden_dim, bias=False)
        self.learned = nn.Embedding(vocab_size, hidden_dim, padding_idx=_PAD_ID)
        self.register_buffer("known", torch.as_tensor(spec.known, dtype=torch.bool).clone())
        self.projection.apply(init_weights)
        self.learned.apply(init_weights)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed token ids, shape (B, S), to shape (B, S, H)."""
        given = self.projection(self.given(input_ids))
        return torch.where(self.known[input_ids].unsqueeze(-1), given, self.learned(input_ids))


def apply_embedding_spec(model: nn.Module, spec: EmbeddingSpec) -> None:
    """Give each embedding of genes of a model what a tokenizer brings for it, in place.

    Parameters
    ----------
    model
        The model, its other weights already initialised.
    spec
        Gene vectors, and what becomes of values.

    Raises
    ------
    ConfigError
        If the model has no such layer, the vectors are not those of its vocabulary, or it cannot use values that way.
    """
    kinds = (GeneExpressionEmbedding, GeneVectorEmbedding)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    if not layers and spec.vectors is not None:
        msg = (
            f"the tokenizer brings gene vectors but {type(model).__name__} has no GeneExpressionEmbedding to put them "
            "into; choose another model.architecture or tokenizer.strategy."
        )
        raise ConfigError(msg)
    if spec.vectors is not None and any(isinstance(module, TiedLinear) for module in model.modules()):
        msg = (
            "model.tied_head is true, but the tokenizer brings gene vectors, which are no weights of a head; set it to "
            "false."
        )
        raise ConfigError(msg)
    own = getattr(model, "only_value_use", None)
    if own is not None and spec.values not in (None, own):
        msg = (
            f"tokenizer.embedding is '{spec.values}', but {type(model).__name__} reads values in one way only; set it "
            f"to '{own}'."
        )
        raise ConfigError(msg)
    if own is None and spec.values not in (None, "linear"):
        _check_values(model, layers, spec.values)
    for layer in layers:
        device = next(layer.parameters()).device
        if spec.vectors is not None:
            _check_size(spec.vectors, layer.vocab_size)
            layer.gene_embedding = GivenGeneEmbedding(spec, layer.vector_dim).to(device)
        if isinstance(layer, GeneVectorEmbedding):
            continue
        if spec.values == "auto_bins":
            layer.value_projection = None
            layer.auto_bins = AutoBinEmbedding(layer.hidden_dim, spec.num_auto_bins).to(device)
            layer.auto_bins.apply(init_weights)
        if spec.values == "attention_bias":
            layer.value_projection = None
            layer.biases_attention = True


def _check_size(vectors: np.ndarray, vocab_size: int) -> None:
    if len(vectors) != vocab_size:
        msg = (
            f"the tokenizer brings vectors of {len(vectors)} tokens, the model has {vocab_size} "
            "(model.vocab_size); both must come from one vocabulary."
        )
        raise ConfigError(msg)


def _check_values(model: nn.Module, layers: list[Any], use: str) -> None:
    """Refuse a model that would leave the values out without a word."""
    name, what = type(model).__name__, f"tokenizer.embedding is '{use}', but"
    if not layers or (use == "attention_bias" and not getattr(model, "takes_attention_bias", False)):
        part = "no attention that takes a bias" if use == "attention_bias" else "no GeneExpressionEmbedding"
        msg = f"{what} {name} has {part}; choose another tokenizer.embedding or model.architecture."
        raise ConfigError(msg)
    if any(layer.value_projection is None for layer in layers):
        has_bins = any(layer.bin_embedding is not None for layer in layers)
        setting = "model.value_embedding is 'bins'" if has_bins else "model.use_expression_values is false"
        advice = "set it to 'linear'" if has_bins else "set it to true"
        msg = f"{what} {setting}; {advice} or choose another tokenizer.embedding."
        raise ConfigError(msg)
