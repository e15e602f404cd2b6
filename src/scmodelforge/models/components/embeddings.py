"""From tokens of a cell to vectors: gene, position and expression value, summed."""

from __future__ import annotations

import logging
import math

import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS
from scmodelforge.models.components.values import AutoBinEmbedding, count_bias

__all__ = ["GeneExpressionEmbedding", "blank_padding", "check_length", "check_token_ids"]

_PAD_ID = DEFAULT_SPECIAL_IDS.pad
_log = logging.getLogger(__name__)


class GeneExpressionEmbedding(nn.Module):
    """Sum of gene, position and expression value embeddings, then layer norm and dropout.

    A missing value counts as 0: ``embedding(ids)`` equals ``embedding(ids, values=zeros)``.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included. Token 0 is padding, until
        :func:`~scmodelforge.models.components.special_tokens.apply_special_tokens` says otherwise.
    hidden_dim
        Width H of the embedding.
    max_seq_len
        Longest sequence, i.e. number of learned positions.
    dropout
        Dropout after the layer norm.
    use_expression_values
        Project each token's value to H and add it. Without this, values are ignored.
    layer_norm_eps
        Epsilon of the layer norm.
    use_positions
        Add an embedding of each token's position. Without it the tokens of a cell are a set.
    value_bins
        Embed each value as one of so many bins K, the nearest of 0, 1 / (K - 1), ..., 1, instead of projecting it. A
        projection is a line, so a mean over tokens tells no more of their values than the mean; with a vector for each
        bin it can tell which bins there are.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        max_seq_len: int = 2048,
        dropout: float = 0.1,
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-12,
        *,
        use_positions: bool = True,
        value_bins: int | None = None,
    ) -> None:
        super().__init__()
        if value_bins is not None and value_bins < 2:
            msg = f"value_bins is {value_bins}; it must be 2 or more, or None to project values."
            raise ConfigError(msg)
        self.vocab_size = vocab_size
        self.hidden_dim = self.vector_dim = hidden_dim
        self.max_seq_len = max_seq_len
        self.use_expression_values = use_expression_values
        self.value_bins = value_bins
        self.special_ids = DEFAULT_SPECIAL_IDS
        self._has_warned = False
        self.gene_embedding: nn.Module = nn.Embedding(vocab_size, hidden_dim, padding_idx=_PAD_ID)
        self.position_embedding = nn.Embedding(max_seq_len, hidden_dim) if use_positions else None
        self.value_projection = nn.Linear(1, hidden_dim) if use_expression_values and value_bins is None else None
        self.bin_embedding = nn.Embedding(value_bins, hidden_dim) if use_expression_values and value_bins else None
        self.auto_bins: AutoBinEmbedding | None = None
        self.biases_attention = False
        self.layer_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        input_ids: torch.Tensor,
        values: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        is_hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed the tokens of a batch of cells.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        values
            Expression value of each token, shape (B, S). ``None`` stands for zeros.
        positions
            Position of each token, shape (B, S); by default 0, 1, ... in the order given.
        is_hidden
            Where the value is hidden though the gene is shown, shape (B, S), bool; it is where the gene is hidden too.

        Returns
        -------
        Shape (B, S, H).

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token id is not in the vocabulary, or a value that is to be a bin is not a number. Checked where it
            costs nothing, i.e. on the CPU.
        """
        check_length(input_ids.shape[1], self.max_seq_len)
        self.check_ids(input_ids)
        summed = self.gene_embedding(input_ids)  # (B, S, H)
        if self.position_embedding is not None:
            if positions is None:
                positions = torch.arange(input_ids.shape[1], device=input_ids.device)
            summed = summed + self.position_embedding(positions)
        if self.value_projection is not None:
            scalars = torch.zeros_like(input_ids) if values is None else values
            summed = summed + self.value_projection(scalars.to(self.value_projection.weight.dtype).unsqueeze(-1))
        if self.bin_embedding is not None:
            scalars = torch.zeros_like(input_ids) if values is None else values
            summed = summed + self.bin_embedding(self._nearest_bins(scalars, self.bin_embedding.num_embeddings - 1))
        if self.auto_bins is not None:
            scalars = torch.zeros_like(input_ids) if values is None else values
            hidden = input_ids == self.special_ids.mask
            hidden = hidden if is_hidden is None else hidden | is_hidden.bool()
            summed = summed + self.auto_bins(scalars, hidden, input_ids == self.special_ids.pad)
        return self.dropout(self.layer_norm(summed))

    def attention_bias(self, input_ids: torch.Tensor, values: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return what values add to the attention that their tokens get, shape (B, S); ``None`` if they add nothing."""
        if not self.biases_attention:
            return None
        return count_bias(torch.zeros_like(input_ids) if values is None else values)

    def _nearest_bins(self, values: torch.Tensor, last: int) -> torch.Tensor:
        """Return which of the bins 0 to ``last`` is nearest to each value, shape (B, S), int64."""
        if values.device.type == "cpu" and values.numel() and not torch.compiler.is_compiling():
            low, high = (float(bound) for bound in values.aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                msg = "a value that is to be read as a bin is infinite or NaN; give a number between 0 and 1."
                raise DataError(msg)
            if (low < 0 or high > 1) and not self._has_warned:
                self._has_warned = True
                _log.warning(
                    f"values from {low:.3g} to {high:.3g} are read as bins, whose values lie between 0 and 1: those "
                    f"below count as bin 0, those above as bin {last}. Give the number of each bin over {last}."
                )
        return (values.float() * last).round().clamp(0, last).long()

    def check_ids(self, input_ids: torch.Tensor) -> None:
        """Refuse token ids that are not in the vocabulary: :func:`check_token_ids`."""
        check_token_ids(input_ids, self.vocab_size)


def check_length(length: int, max_seq_len: int) -> None:
    """Refuse sequences that are longer than a model takes.

    Raises
    ------
    ConfigError
        If they are.
    """
    if length > max_seq_len:
        msg = (
            f"sequences of {length} tokens exceed model.max_seq_len ({max_seq_len}); "
            "raise it or lower tokenizer.max_genes."
        )
        raise ConfigError(msg)


def check_token_ids(input_ids: torch.Tensor, vocab_size: int) -> None:
    """Refuse token ids that are not in a vocabulary of so many tokens, where looking costs nothing: on the CPU.

    Raises
    ------
    DataError
        If there is one.
    """
    if input_ids.device.type != "cpu" or input_ids.numel() == 0 or torch.compiler.is_compiling():
        return
    low, high = (int(bound) for bound in input_ids.aminmax())
    if low < 0 or high >= vocab_size:
        msg = (
            f"token id {low if low < 0 else high} is not in the vocabulary of {vocab_size} tokens "
            "(model.vocab_size); use tokens of the vocabulary the model was made for."
        )
        raise DataError(msg)


def blank_padding(
    input_ids: torch.Tensor,
    values: torch.Tensor | None,
    attention_mask: torch.Tensor,
    *,
    pad_id: int = _PAD_ID,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Replace whatever stands at padding by the padding token and the value 0.

    A mask alone is not enough: NaN times an attention weight of 0 is NaN.

    Parameters
    ----------
    input_ids
        Token ids, shape (B, S).
    values
        Expression values, shape (B, S), or ``None``.
    attention_mask
        1 for real tokens and 0 for padding, shape (B, S), of any type.
    pad_id
        The padding token.

    Returns
    -------
    Ids and values, as new tensors.
    """
    is_padding = attention_mask == 0
    ids = input_ids.masked_fill(is_padding, pad_id)
    return ids, None if values is None else values.masked_fill(is_padding, 0)
