"""Heads of fine-tuned models: what reads the embedding of a cell, or its tokens.

A head of another kind is a class of its own with a line in :data:`HEADS`.
"""

from __future__ import annotations

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig

__all__ = ["HEADS", "CellTypeHead"]


class CellTypeHead(nn.Module):
    """Scores of cell types: hidden layers with an activation, dropout, and a linear layer to the types.

    Parameters
    ----------
    config
        Its settings.
    width
        Width of what it reads.
    num_cell_types
        Number of cell types C.
    dropout
        Dropout where the settings name none.

    Attributes
    ----------
    reads_tokens
        Whether it reads hidden states of tokens, or the embedding of the cell only.
    """

    def __init__(self, config: CellTypeHeadConfig, width: int, num_cell_types: int, *, dropout: float) -> None:
        super().__init__()
        self.reads_tokens = config.pooling == "first"
        self.width, self.num_cell_types = width, num_cell_types
        self._first = get_pooling("cls")
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            is_tanh = config.activation == "tanh"
            layers += [nn.Linear(width, width), nn.Tanh() if is_tanh else get_activation(config.activation)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout if config.dropout is None else config.dropout)
        self.decoder = nn.Linear(width, num_cell_types)
        self.apply(init_weights)

    def forward(
        self, cells: torch.Tensor, tokens: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Score the cell types.

        Parameters
        ----------
        cells
            Embeddings of cells, shape (B, H).
        tokens
            Hidden states of their tokens, shape (B, S, H); needed by a head that reads them.
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S).

        Returns
        -------
        Unnormalised logits, shape (B, C).

        Raises
        ------
        ConfigError
            If what is read is not as wide as the model said.
        """
        vectors = cells
        if self.reads_tokens:
            assert tokens is not None
            vectors = self._first(tokens, attention_mask)
        if vectors.shape[-1] != self.width:
            msg = (
                f"embeddings are {vectors.shape[-1]} wide and model.hidden_dim is {self.width}; a model whose "
                "embeddings have another width names it as embedding_dim."
            )
            raise ConfigError(msg)
        return self.decoder(self.dropout(self.layers(vectors)))


#: Heads by ``model.head.kind``.
HEADS: dict[str, type[CellTypeHead]] = {"cell_types": CellTypeHead}
