"""Gene classification: a head names the class of a gene from its hidden states in cells.

Genes are held out, not cells alone: a held-out gene gives no loss in any cell. What is said of a gene is the mean of
what is said of it in the cells that express it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError, listed
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import FinetuneConfig, RunConfig
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.gene_classes import NAME, expression_features, guess_by_expression, score_genes
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.gene_labels import genes_of_vocab, read_gene_labels, split_genes
from scmodelforge.finetuning.predictions import Naming
from scmodelforge.hub.bundle import Bundle
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.losses import masked_cross_entropy
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.models.fine_tuned_heads import Seen, register_head

if TYPE_CHECKING:
    from scmodelforge.eval.base import Record
    from scmodelforge.finetuning.cells import TaskCells, TrainedCells

__all__ = ["GeneClassHead", "GeneClassHeadConfig", "GeneClassPredictor", "GeneClassificationTask"]

_log = logging.getLogger(__name__)


class GeneClassHeadConfig(HeadConfig):
    """Settings of a head that names the class of each gene of a cell."""

    objective: ClassVar[str] = "gene_classification"

    kind: Literal["gene_classes"] = "gene_classes"
    """What the head predicts. Its other settings are those of this kind."""
    hidden_layers: int = Field(0, ge=0)
    """Layers before the last one, each as wide as the hidden states."""
    activation: Literal["tanh", "gelu", "relu", "silu"] = "gelu"
    """Activation after each of these."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; ``None`` is that of the backbone."""
    classes: list[str] = Field(default_factory=list)
    """The classes, in the order of scores; filled in from ``finetune.gene_labels``."""
    train_genes: dict[str, str] = Field(default_factory=dict)
    """The class of each gene that is learned from; filled in when a run starts."""
    held_out_genes: dict[str, str] = Field(default_factory=dict)
    """The class of each gene that is held out; filled in when a run starts."""

    @property
    def reads(self) -> Literal["cells", "first", "tokens"]:
        """What it reads of the backbone."""
        return "tokens"


class GeneClassificationConfig(FinetuneConfig):
    """Settings of gene classification."""

    gene_labels: str | None = None
    """File with a gene, a tab and its class in each line; genes by symbol or Ensembl id."""
    held_out_genes: float = Field(0.3, gt=0, lt=1)
    """Share of the genes of each class that is scored and never learned from; chosen by ``data.split.seed``."""
    head: GeneClassHeadConfig = Field(default_factory=GeneClassHeadConfig)
    """The head."""


@register_head("gene_classes")
class GeneClassHead(nn.Module):
    """Scores of the classes of genes, of the hidden state of each token.

    Parameters
    ----------
    config
        Settings of the model around it.
    width
        Width of hidden states.
    dropout
        Dropout where the settings name none.
    """

    config_class: ClassVar[type[HeadConfig]] = GeneClassHeadConfig
    labels: ClassVar[tuple[str, ...]] = ("gene_classes",)

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        super().__init__()
        own = config.head
        assert isinstance(own, GeneClassHeadConfig)
        if len(own.classes) < 2:
            msg = f"model.head.classes has {len(own.classes)} class(es) of genes; name two or more."
            raise ConfigError(msg)
        layers: list[nn.Module] = []
        for _ in range(own.hidden_layers):
            is_tanh = own.activation == "tanh"
            layers += [nn.Linear(width, width), nn.Tanh() if is_tanh else get_activation(own.activation)]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout if own.dropout is None else own.dropout))
        self.decoder = nn.Linear(width, len(own.classes))
        self.apply(init_weights)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return unnormalised logits of the classes, shape (B, S, C)."""
        assert seen.tokens is not None
        scores: torch.Tensor = self.decoder(self.layers(seen.tokens))
        return scores

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return ``gene_classes``, the mean cross-entropy over genes of cells that are learned from, in nats."""
        return {"gene_classes": masked_cross_entropy(scores, labels["gene_classes"])}


@register_task("gene_classification")
class GeneClassificationTask(HeadTask):
    """Learns the classes that a file has of genes."""

    config_class: ClassVar[type[FinetuneConfig]] = GeneClassificationConfig
    head_kind: ClassVar[str | None] = "gene_classes"

    config: GeneClassificationConfig

    @cached_property
    def gene_labels(self) -> dict[str, str]:
        """The class of each gene of the file."""
        if self.config.gene_labels is None:
            msg = "finetune.gene_labels is not set; task 'gene_classification' needs a file of genes and their classes."
            raise ConfigError(msg)
        return read_gene_labels(self.config.gene_labels)

    def head(self) -> GeneClassHeadConfig:
        """Return settings of the head."""
        return self.config.head.model_copy(update={"classes": sorted(set(self.gene_labels.values()))})

    def prepare(self, config: RunConfig, data: TaskCells) -> None:
        """Write into the head's settings which genes are learned from and which are held out.

        Raises
        ------
        DataError
            If too few of the genes are in the vocabulary and in the data.
        """
        known, unknown = genes_of_vocab(self.gene_labels, data.vocab)
        measured = _measured(data)
        absent = [gene for gene in known if gene not in measured]
        for genes, where in ((unknown, "in the vocabulary of the base model"), (absent, "measured in the data")):
            if genes:
                _log.warning(
                    f"{len(genes):,} of the {len(self.gene_labels):,} genes of finetune.gene_labels are not {where}: "
                    f"{listed(genes, 10)}"
                )
        there = {gene: name for gene, name in known.items() if gene in measured}
        train, held_out = split_genes(there, held_out=self.config.held_out_genes, seed=config.data.split.seed)
        head: Any = config.model.head  # type: ignore[attr-defined]
        head.train_genes, head.held_out_genes = train, held_out
        _log.info(f"{len(train):,} genes are learned from, {len(held_out):,} are held out")

    @classmethod
    def predictor(cls, bundle: Bundle, naming: Naming) -> GeneClassPredictor:
        """Return what names the classes of genes."""
        return GeneClassPredictor(bundle.model, bundle.model_config.head, bundle.vocab, naming)  # type: ignore[attr-defined]

    def score(self, trained: TrainedCells) -> list[Record]:
        """Score the classes of held-out genes beside the most frequent class and a guess by expression alone.

        Genes are judged by held-out cells; without any by the training cells.
        """
        predictor = self.predictor(trained.bundle, Naming())
        split, head = trained.data.split, predictor.config
        cells = split.validation if len(split.validation) else split.train
        trained.predicted(predictor, cells)
        means, num_cells = predictor.means()
        numbers = {gene: number for number, gene in enumerate(trained.data.vocab.genes)}
        genes = [gene for gene in head.held_out_genes if num_cells[numbers[gene]]]
        rows = [numbers[gene] for gene in genes]
        classes = np.array(head.classes)
        features = expression_features(trained.counts(split.train))
        learned = [numbers[gene] for gene in head.train_genes]
        known = np.array(list(head.train_genes.values()))
        names, sizes = np.unique(known, return_counts=True)
        found = {
            "model": classes[means[rows].argmax(axis=1)] if rows else classes[:0],
            "majority": np.full(len(rows), names[sizes.argmax()]),
            "expression": guess_by_expression(features[learned], known, features[rows], seed=trained.seed),
        }
        truth = np.array([head.held_out_genes[gene] for gene in genes])
        skipped = len(head.held_out_genes) - len(genes)
        return score_genes(truth, found, trained.record, num_skipped=skipped, seed=trained.seed, benchmark=NAME)


class GeneClassPredictor(nn.Module):
    """Names the class of each gene, from the mean of its probabilities over the cells that express it.

    Columns of var are ``gene_class``, categorical, missing for genes that the model does not know or no cell expresses;
    ``gene_confidence``, the probability of the class; ``gene_cells``, the cells that the gene was judged by; and
    ``gene_known``, ``training`` or ``held_out`` for genes that the model's run had classes of.

    Parameters
    ----------
    model
        Has ``score(**batch) -> (B, S, C)``.
    config
        Settings of its head.
    vocab
        Its genes.
    naming
        When and how a gene is unknown.
    """

    table: Literal["obs", "var"] = "var"
    key = "gene_class"

    def __init__(self, model: nn.Module, config: GeneClassHeadConfig, vocab: GeneVocab, naming: Naming) -> None:
        super().__init__()
        if naming.unknown in config.classes:
            msg = f"'{naming.unknown}' is a class of genes of the model; choose another word for unknown genes."
            raise ConfigError(msg)
        self.model, self.config, self._vocab, self._naming = model, config, vocab, naming
        self._sums = np.zeros((len(vocab), len(config.classes)))
        self._counts = np.zeros(len(vocab), dtype=np.int64)
        self.facts: dict[str, Any] = {"min_confidence": float(naming.min_confidence), "unknown": naming.unknown}

    def encode(self, **batch: Any) -> torch.Tensor:
        """Count the probabilities of the genes of each cell; of a cell itself nothing is kept, shape (B, 1) of 0."""
        num_cells = len(batch["cell_index"])  # others fill up a batch
        found = self.model.score(**batch)[:num_cells].float().softmax(dim=-1)  # type: ignore[operator]
        is_token = (batch["attention_mask"][:num_cells] != 0).cpu().numpy()
        tokens = batch["gene_ids"][:num_cells].cpu().numpy()[is_token]
        np.add.at(self._sums, tokens, found.cpu().numpy()[is_token].astype(np.float64))
        np.add.at(self._counts, tokens, 1)
        return found.new_zeros(len(batch["input_ids"]), 1)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean probabilities of each gene of the vocabulary, shape (G, C), and the cells it was in, (G,)."""
        tokens = self._vocab.gene_tokens
        counts = self._counts[tokens]
        return self._sums[tokens] / np.maximum(counts, 1)[:, None], counts

    def columns(self, rows: np.ndarray, panel: Panel) -> dict[str, Any]:
        """Return columns of the genes of a panel."""
        import pandas as pd

        means, counts = self.means()
        tokens = self._vocab.map_panel(panel)
        numbers = np.where(tokens >= 0, self._vocab.gene_numbers[tokens], 0)
        cells = np.where(tokens >= 0, counts[numbers], 0)
        confidence = np.where(cells > 0, means[numbers].max(axis=1), np.nan).astype(np.float32)
        names = [*self.config.classes, self._naming.unknown]
        is_sure = np.nan_to_num(confidence, nan=1) >= self._naming.min_confidence
        codes = np.where(cells > 0, np.where(is_sure, means[numbers].argmax(axis=1), len(names) - 1), -1)
        genes = [self._vocab.genes[number] if token >= 0 else "" for number, token in zip(numbers, tokens, strict=True)]
        known = [
            0 if gene in self.config.train_genes else 1 if gene in self.config.held_out_genes else -1 for gene in genes
        ]
        return {
            "gene_class": pd.Categorical.from_codes(codes, categories=names),
            "gene_confidence": confidence,
            "gene_cells": cells.astype(np.int64),
            "gene_known": pd.Categorical.from_codes(known, categories=["training", "held_out"]),
        }

    def told(self, columns: dict[str, Any]) -> str:
        """Return of how many genes there is a class."""
        found = columns["gene_class"]
        return f"classes of {int((found.codes >= 0).sum()):,} of {len(found):,} genes"


def _measured(data: TaskCells) -> set[str]:
    """Return the genes of the vocabulary that some file has."""
    vocab = data.vocab
    tokens = np.unique(np.concatenate([vocab.map_panel(panel) for panel in data.source.panels]))
    return {vocab.genes[int(number)] for number in vocab.gene_numbers[tokens[tokens >= 0]] if number >= 0}
