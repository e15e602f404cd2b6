"""Heads of fine-tuned models: what reads the embedding of a cell, or its tokens.

A head of another kind is a class with ``@register_head``, in the file of the task that trains it
(``scmodelforge.finetuning.tasks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import HEADS
from scmodelforge.config.head import HeadConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._scdiva_losses import annotation_term
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.fine_tuned_config import CellHeadConfig, CellTypeHeadConfig, FineTunedConfig

__all__ = ["CellHead", "CellTypeHead", "ColumnScale", "Head", "Seen", "register_head"]

T = TypeVar("T", bound=type)

#: Standard deviation over mean of a column that differs between cells by rounding alone.
_LEAST_SPREAD = 1e-6


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
    apart
        Terms that count for no loss; may be left out by a head that has none.
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


class ColumnScale(nn.Module):
    """Standardises columns: what cells have in common is taken away, and the rest brought to one scale.

    Embeddings of different cells may be the same to a thousandth of their length, which a head on its own learns to
    see through slowly or not at all.

    Parameters
    ----------
    width
        Number of columns.

    Attributes
    ----------
    mean, sd
        Of the columns, shape (H,); saved with the model and never trained. 0 and 1 until :meth:`fit`.
    """

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))

    def fit(self, rows: np.ndarray) -> None:
        """Take mean and standard deviation of embeddings, shape (n, H); columns that are constant are not divided."""
        mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        is_constant = sd <= _LEAST_SPREAD * np.maximum(np.abs(mean), 1e-30)
        self.mean.copy_(torch.from_numpy(mean))
        self.sd.copy_(torch.from_numpy(np.where(is_constant, 1.0, sd)))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return standardised rows, shape (B, H), at least in float32: in 16 bits cells may be all the same."""
        return (rows.to(torch.promote_types(rows.dtype, torch.float32)) - self.mean) / self.sd


class CellHead(nn.Module):
    """Scores of cells: hidden layers with an activation, dropout, and a linear layer.

    Parameters
    ----------
    config
        Its settings.
    width
        Width of what it reads.
    dropout
        Dropout where the settings name none.
    num_scores
        Scores of a cell.
    """

    def __init__(self, config: CellHeadConfig, *, width: int, dropout: float, num_scores: int) -> None:
        super().__init__()
        self._reads_first = config.reads == "first"
        self._first = get_pooling("cls")
        self.scale: ColumnScale | None = ColumnScale(width) if config.standardised else None
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            is_tanh = config.activation == "tanh"
            layers += [nn.Linear(width, width), nn.Tanh() if is_tanh else get_activation(config.activation)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout if config.dropout is None else config.dropout)
        self.decoder = nn.Linear(width, num_scores)
        self.apply(init_weights)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return the scores, shape (B, C), such as unnormalised logits.

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
        if self.scale is not None:
            vectors = self.scale(vectors)
        return self.decoder(self.dropout(self.layers(vectors)))


@register_head("cell_types")
class CellTypeHead(CellHead):
    """Scores of cell types.

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
    measures: ClassVar[frozenset[str]] = frozenset({"annotation_error"})

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        own = config.head
        assert isinstance(own, CellTypeHeadConfig)
        assert config.num_cell_types is not None
        if own.class_weights is not None and len(own.class_weights) != config.num_cell_types:
            msg = (
                f"model.head.class_weights has {len(own.class_weights)} weights for {config.num_cell_types} cell "
                "types; leave it out and set finetune.class_weights."
            )
            raise ConfigError(msg)
        super().__init__(own, width=width, dropout=dropout, num_scores=config.num_cell_types)
        self._weights = own.class_weights

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return the terms of cells whose type is known; 0 without any.

        Returns
        -------
        ``annotation``, the mean of their weighted cross-entropy in nats: the sum of weight times cross-entropy over
        their number, not over the sum of their weights, so that it is a mean over targets as that of any term. In
        evaluation also ``annotation_error``, the share of them that is called by another type.
        """
        types = labels["cell_types"]
        terms = annotation_term(scores, types, weights=self._weights)
        if not self.training:
            is_known = types != IGNORE_INDEX
            is_wrong = is_known & (scores.argmax(dim=1) != types)
            terms["annotation_error"] = is_wrong.sum() / is_known.sum().clamp(min=1)
        return terms
