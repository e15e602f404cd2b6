"""Parts of scGPT: Cui et al. 2024, doi:10.1038/s41592-024-02201-0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, check_length
from scmodelforge.models.components.transformer import TransformerStack

__all__ = ["CellHead", "CellValueHead", "ScGPTEmbedding", "ValueHead", "without_output_projection"]

_LARGEST_VALUE = 512.0


class ScGPTEmbedding(GeneExpressionEmbedding):
    """The normalised vector of a gene, and beside it what two layers make of its value.

    LayerNorm(E[gene]) + Dropout(LayerNorm(W2 relu(W1 min(v, 512) + b1) + b2)). Dropout acts on values only. At genes
    whose value is to be generated a flag stands in place of the value.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    hidden_dim
        Width H.
    max_seq_len
        Longest sequence.
    dropout
        Dropout on what is made of values.
    use_expression_values
        Without this, values are ignored.
    layer_norm_eps
        Epsilon of the layer norms.
    has_flags
        Whether there is a flag for values to generate.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        *,
        max_seq_len: int,
        dropout: float,
        use_expression_values: bool,
        layer_norm_eps: float,
        has_flags: bool,
    ) -> None:
        super().__init__(
            vocab_size,
            hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=False,
            layer_norm_eps=layer_norm_eps,
            use_positions=False,
        )
        self.use_expression_values = use_expression_values
        if use_expression_values:
            self.value_projection = cast("Any", _ValueProjection(hidden_dim, layer_norm_eps))
        #: The published table has two rows; only the second is ever read.
        self.flag_embedding = nn.Embedding(2, hidden_dim) if has_flags else None

    def forward(
        self,
        input_ids: torch.Tensor,
        values: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        is_hidden: torch.Tensor | None = None,
        is_generated: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed the tokens of a batch of cells.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        values
            Expression value of each token, shape (B, S). ``None`` stands for zeros.
        positions
            Not used: a cell is a set.
        is_hidden
            Where the value is hidden, shape (B, S), bool; read by mixtures of learned bins only.
        is_generated
            Where the value is to be generated, shape (B, S), bool; ``None`` is nowhere.

        Returns
        -------
        Shape (B, S, H).

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token id is not in the vocabulary; checked on the CPU only.
        """
        check_length(input_ids.shape[1], self.max_seq_len)
        self.check_ids(input_ids)
        genes = self.genes(input_ids)  # (B, S, H)
        scalars = torch.zeros_like(input_ids) if values is None else values
        shown: torch.Tensor | None = None
        if self.value_projection is not None:
            shown = self.dropout(self.value_projection(scalars))
        if self.auto_bins is not None:
            shown = self.dropout(self.auto_bins(scalars, is_hidden, input_ids == self.special_ids.pad))
        if self.flag_embedding is not None:
            # Looked up where nothing is generated too, so that its weights take part in every pass.
            generated = torch.zeros_like(input_ids) if is_generated is None else is_generated.long()
            rest = torch.zeros_like(genes) if shown is None else shown
            shown = torch.where(generated[..., None] == 1, self.flag_embedding(generated), rest)
        return genes if shown is None else genes + shown

    def genes(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the normalised vectors of genes, shape (..., H) for ids of shape (...)."""
        return self.layer_norm(self.gene_embedding(input_ids))


class _ValueProjection(nn.Module):
    def __init__(self, hidden_dim: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        scalars = values.to(self.linear1.weight.dtype).clamp(max=_LARGEST_VALUE)[..., None]
        return self.norm(self.linear2(self.linear1(scalars).relu()))


class ValueHead(nn.Sequential):
    """A value from each hidden state: three linear layers with leaky ReLU between them.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__(
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Predict values, shape (...), from hidden states, shape (..., H)."""
        return super().forward(hidden_states).squeeze(-1)


class CellValueHead(nn.Module):
    """A value of each gene asked for, from the vector of the cell alone: <W sigmoid(Q e + b), cell>.

    Parameters
    ----------
    hidden_dim
        Width H of the vectors.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.weight = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def reset(self) -> None:
        """Start with predictions of about 1: vectors of cells are normalised, so they grow with the width."""
        nn.init.normal_(self.weight.weight, std=1 / self.weight.in_features)

    def forward(self, genes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Predict values, shape (...), from vectors of genes and cells, shapes that broadcast to (..., H)."""
        keys = self.weight(torch.sigmoid(self.query(genes)))
        exact = torch.promote_types(torch.promote_types(keys.dtype, cells.dtype), torch.float32)
        return (keys.to(exact) * cells.to(exact)).sum(dim=-1)


class CellHead(nn.Module):
    """Scores of classes from the vector of a cell: layers of linear, activation and layer norm, then a linear one.

    Parameters
    ----------
    hidden_dim
        Width H of the vectors.
    num_classes
        Number of classes.
    num_layers
        Linear layers, the last included.
    layer_norm_eps
        Epsilon of the layer norms.
    activation
        Class of the activation.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_classes: int,
        *,
        num_layers: int,
        layer_norm_eps: float,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            layers += [nn.Linear(hidden_dim, hidden_dim), activation(), nn.LayerNorm(hidden_dim, eps=layer_norm_eps)]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Score the classes, shape (B, C), from vectors of shape (B, H)."""
        return self.output(self.layers(cells))


@contextmanager
def without_output_projection(stack: TransformerStack, rows: torch.Tensor) -> Iterator[None]:
    """Let the attention of some tokens leave out its output projection for a while.

    Parameters
    ----------
    stack
        The transformer, called with padded tensors while this lasts.
    rows
        The tokens, shape (B, S), bool.
    """

    def keep_input(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return torch.where(rows[..., None], inputs[0].to(output.dtype), output)

    handles = [cast("Any", layer).attention.o.register_forward_hook(keep_input) for layer in stack.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
