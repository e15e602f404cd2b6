"""Tokens as vectors of their genes behind a small network, counts as a bias of attention.

So TranscriptFormer embeds (Pearce et al. 2025, doi:10.1101/2025.04.25.650731): vectors of genes from a protein language
model, the same for all cells, and of a count nothing but how much attention its gene gets.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.embeddings import check_length, check_token_ids
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS
from scmodelforge.models.components.values import count_bias

__all__ = ["AssayEmbedding", "CappedGeneHead", "GeneVectorEmbedding", "NormedMLP"]


class NormedMLP(nn.Module):
    """Linear, ReLU, layer norm, linear.

    Parameters
    ----------
    width
        Width of what comes in.
    inner
        Width between the layers.
    outer
        Width of what goes out.
    layer_norm_eps
        Epsilon of the layer norm.
    """

    def __init__(self, width: int, inner: int, outer: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)
        self.activation = get_activation("relu")
        self.layer_norm = nn.LayerNorm(inner, eps=layer_norm_eps)
        self.decoder = nn.Linear(inner, outer)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Transform the last dimension."""
        return self.decoder(self.layer_norm(self.activation(self.dense(inputs))))


class CappedGeneHead(NormedMLP):
    """Scores of all genes, capped softly.

    Parameters
    ----------
    width
        Width of the hidden states.
    inner
        Width between the layers.
    num_classes
        Number of tokens V.
    layer_norm_eps
        Epsilon of the layer norm.
    soft_cap
        Most that a score may be; ``None`` does not bound them.
    """

    def __init__(
        self, width: int, inner: int, num_classes: int, layer_norm_eps: float, *, soft_cap: float | None
    ) -> None:
        super().__init__(width, inner, num_classes, layer_norm_eps)
        self.num_classes, self.soft_cap = num_classes, soft_cap

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Score the tokens: shape (..., H) to (..., V)."""
        scores = super().forward(inputs)
        return scores if self.soft_cap is None else self.soft_cap * torch.tanh(scores.float() / self.soft_cap)


class AssayEmbedding(nn.Embedding):
    """A token for the assay of a cell, before those of its genes; 0 is an assay that is not known."""

    def before(
        self, embedded: torch.Tensor, bias: torch.Tensor | None, is_seen: torch.Tensor, *, assay_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the cells with one more token each, which is not seen where the assay is not known.

        Parameters
        ----------
        embedded, bias, is_seen
            Embedded tokens, shape (B, S, H), what is added to the attention they get, and which may be seen, (B, S).
        assay_ids
            Number of each cell's assay, shape (B,).

        Raises
        ------
        DataError
            If there is no such assay; checked on the CPU only.
        """
        self._check(assay_ids)
        token = self(assay_ids)[:, None].to(embedded.dtype)
        if bias is not None:
            bias = torch.cat([torch.full_like(bias[:, :1], math.log(2)), bias], dim=1)  # a count of 1
        is_known = (assay_ids != 0)[:, None] & is_seen.any(dim=1, keepdim=True)
        return torch.cat([token, embedded], dim=1), bias, torch.cat([is_known, is_seen], dim=1)

    def _check(self, assay_ids: torch.Tensor) -> None:
        if assay_ids.device.type != "cpu" or assay_ids.numel() == 0 or torch.compiler.is_compiling():
            return
        low, high = (int(bound) for bound in assay_ids.aminmax())
        if low < 0 or high >= self.num_embeddings:
            msg = (
                f"assay {low if low < 0 else high} is none of 0 to {self.num_embeddings - 1} (model.num_assays); "
                "use 0 for unknown ones."
            )
            raise DataError(msg)


class GeneVectorEmbedding(nn.Module):
    """Vectors of genes, learned or given, behind a :class:`NormedMLP`.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    hidden_dim
        Width H of the embedding.
    vector_dim
        Width of the vectors. Given ones of another width go through a learned projection to it.
    max_seq_len
        Longest sequence.
    dropout
        Dropout on the embedding.
    use_expression_values
        Whether counts add to attention.
    layer_norm_eps
        Epsilon of the layer norm.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        *,
        vector_dim: int,
        max_seq_len: int,
        dropout: float,
        use_expression_values: bool,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_dim = hidden_dim
        self.vector_dim = vector_dim
        self.max_seq_len = max_seq_len
        self.biases_attention = use_expression_values
        self.special_ids = DEFAULT_SPECIAL_IDS
        self.gene_embedding: nn.Module = nn.Embedding(vocab_size, vector_dim, padding_idx=self.special_ids.pad)
        self.mlp = NormedMLP(vector_dim, hidden_dim, hidden_dim, layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed the tokens of a batch of cells, shape (B, S), to shape (B, S, H).

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token id is not in the vocabulary; checked on the CPU only.
        """
        check_length(input_ids.shape[1], self.max_seq_len)
        self.check_ids(input_ids)
        return self.dropout(self.genes(input_ids))

    def genes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the embedding of tokens, shape (...), without dropout, shape (..., H)."""
        return self.mlp(self.gene_embedding(tokens))

    def attention_bias(self, input_ids: torch.Tensor, values: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return what counts add to the attention that their tokens get, shape (B, S); ``None`` if they add nothing.

        Tokens that are no genes count as counts of 1.
        """
        if not self.biases_attention:
            return None
        counts = torch.zeros_like(input_ids) if values is None else values
        is_special = torch.isin(input_ids, self.special_ids.on(input_ids.device))
        return count_bias(counts.masked_fill(is_special, 1))

    def check_ids(self, input_ids: torch.Tensor) -> None:
        """Refuse token ids that are not in the vocabulary: :func:`check_token_ids`."""
        check_token_ids(input_ids, self.vocab_size)
