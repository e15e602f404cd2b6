"""Heads of fine-tuned models: what reads the embedding of a cell, or its tokens.

A head of another kind is a class with ``@register_head``, in the file of the task that trains it
(``scmodelforge.finetuning.tasks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import HEADS
from scmodelforge.config.head import HeadConfig
from scmodelforge.models._scdiva_losses import annotation_term
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig, FineTunedConfig

__all__ = ["CellTypeHead", "Head", "Seen", "register_head"]

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Seen:
    """What a head gets to see of a batch.

    Attributes
    ----------
    cells
        Embeddings of cells, shape (B, H).
    tokens
        Hidden states of their tokens, shape (B, S, D), for a head that reads them.
    batch
        What the backbone got: ``input_ids``, ``attention_mask``, ``values`` and other keys of the batch. Labels that
        the head learns from are not among them.
    backbone
        The model that reads the tokens.
    """

    cells: torch.Tensor
    tokens: torch.Tensor | None
    batch: Mapping[str, Any]
    backbone: nn.Module


class Head(Protocol):
    """What a head offers. It is a ``torch.nn.Module`` made as ``Head(config, width=..., dropout=...)``.

    Attributes
    ----------
    config_class
        Its settings.
    labels
        Keys of the batch that it learns from; they reach neither the backbone nor the scores.
    """

    config_class: ClassVar[type[HeadConfig]]
    labels: ClassVar[tuple[str, ...]]

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        """Make a head that reads vectors of a width, of the settings of the model around it."""
        ...

    def __call__(self, seen: Seen) -> torch.Tensor:
        """Return the scores: of cells, shape (B, ...), or of tokens, shape (B, S, ...)."""
        ...

    def loss_terms(self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen) -> dict[str, Any]:
        """Return the mean of each term over its targets, named as in ``config_class.terms``."""
        ...


def register_head(kind: str) -> Callable[[T], T]:
    """Return a decorator that registers a class of heads as ``model.head.kind``."""
    return HEADS.register(kind)


@register_head("cell_types")
class CellTypeHead(nn.Module):
    """Scores of cell types: hidden layers with an activation, dropout, and a linear layer to the types.

    Parameters
    ----------
    config
        Settings of the model around it, with ``num_cell_types`` set.
    width
        Width of what it reads.
    dropout
        Dropout where the settings name none.
    """

    config_class: ClassVar[type[HeadConfig]] = CellTypeHeadConfig
    labels: ClassVar[tuple[str, ...]] = ("cell_types",)

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        super().__init__()
        own = config.head
        assert isinstance(own, CellTypeHeadConfig)
        assert config.num_cell_types is not None
        self._reads_first = own.reads == "first"
        self._first = get_pooling("cls")
        layers: list[nn.Module] = []
        for _ in range(own.hidden_layers):
            is_tanh = own.activation == "tanh"
            layers += [nn.Linear(width, width), nn.Tanh() if is_tanh else get_activation(own.activation)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout if own.dropout is None else own.dropout)
        self.decoder = nn.Linear(width, config.num_cell_types)
        self.apply(init_weights)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return unnormalised logits of the cell types, shape (B, C).

        Raises
        ------
        ConfigError
            If what is read is not as wide as the model said.
        """
        vectors = seen.cells
        if self._reads_first:
            assert seen.tokens is not None
            vectors = self._first(seen.tokens, seen.batch["attention_mask"])
        width = self.decoder.in_features
        if vectors.shape[-1] != width:
            msg = (
                f"embeddings are {vectors.shape[-1]} wide and model.hidden_dim is {width}; a model whose "
                "embeddings have another width names it as embedding_dim."
            )
            raise ConfigError(msg)
        return self.decoder(self.dropout(self.layers(vectors)))

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return ``annotation``, the mean cross-entropy over the cells whose type is known, in nats; 0 without any."""
        return annotation_term(scores, labels["cell_types"])
