"""Gene classification: a head names the class of a gene from its hidden states in cells.

Genes are held out, not cells alone: a held-out gene gives no loss in any cell. What is said of a gene is the mean of
what is said of it in the cells that express it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError, listed
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import FinetuneConfig, RunConfig
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.gene_classes import NAME, expression_features, guess_by_expression, score_genes
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.gene_labels import (
    fold_genes,
    genes_of_vocab,
    read_gene_labels,
    split_genes,
    split_named_genes,
    without_header,
)
from scmodelforge.finetuning.gene_predictions import GeneClassPredictor
from scmodelforge.finetuning.held_out import TaskFolds
from scmodelforge.finetuning.predictions import Naming, free_name, warn_of_unknown
from scmodelforge.hub.bundle import Bundle
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.losses import masked_cross_entropy
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.models.fine_tuned_heads import Seen, register_head

if TYPE_CHECKING:
    from pathlib import Path

    from scmodelforge.data.protocols import CellSource
    from scmodelforge.eval.base import Record
    from scmodelforge.finetuning.cells import TaskCells, TrainedCells

__all__ = ["GeneClassHead", "GeneClassHeadConfig", "GeneClassificationTask"]

_log = logging.getLogger(__name__)


class GeneClassHeadConfig(HeadConfig):
    """Settings of a head that names the class of each gene of a cell."""

    objective: ClassVar[str] = "gene_classification"
    filled: ClassVar[dict[str, str]] = dict.fromkeys(
        ("classes", "train_genes", "held_out_genes"), "finetune.gene_labels and finetune.held_out_genes"
    )

    kind: Literal["gene_classes"] = "gene_classes"
    """What the head predicts. Its other settings are those of this kind."""
    hidden_layers: int = Field(0, ge=0)
    """Layers before the last one, each as wide as the hidden states."""
    activation: Literal["tanh", "gelu", "relu", "silu"] = "gelu"
    """Activation after each of these."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; ``None`` is that of the backbone."""
    classes: list[str] = Field(default_factory=list)
    """The classes of the genes that are learned from, in the order of scores; filled in when a run starts."""
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
    held_out_genes: Annotated[float, Field(gt=0, lt=1)] | list[str] = 0.3
    """Share of the genes of each class that is scored and never learned from, chosen by ``data.split.seed``; or these
    genes themselves, as ``gene_labels`` has them."""
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
    held_out: ClassVar[str] = "genes"
    command: ClassVar[str] = "predict YOUR.h5ad genes.h5ad"

    config: GeneClassificationConfig

    @cached_property
    def gene_labels(self) -> dict[str, str]:
        """The class of each gene of the file."""
        if self.config.gene_labels is None:
            msg = "finetune.gene_labels is not set; task 'gene_classification' needs a file of genes and their classes."
            raise ConfigError(msg)
        found = read_gene_labels(self.config.gene_labels)
        return without_header(found, self.base.vocab, path=self.config.gene_labels)

    def head(self) -> GeneClassHeadConfig:
        """Return settings of the head; until the genes of the data are known, with all classes of the file."""
        return self.config.head.model_copy(update={"classes": sorted(set(self.gene_labels.values()))})

    def folds(self, config: RunConfig, source: CellSource, *, number: int, folder: Path) -> TaskFolds:
        """Return folds of the genes: each that is not the only one of its class is held out once.

        Raises
        ------
        DataError
            If a fold would have no gene.
        """
        known, _ = genes_of_vocab(self.gene_labels, self.base.vocab)
        measured = _measured(source, self.base.vocab)
        parts = fold_genes(
            {gene: name for gene, name in known.items() if gene in measured}, folds=number, seed=config.data.split.seed
        )
        return TaskFolds(
            self.held_out,
            "the classes of training genes in held-out cells, not held-out genes",
            ("gene_labels", "held_out_genes"),
            [{"finetune.held_out_genes": part} for part in parts],
        )

    def prepare(self, config: RunConfig, data: TaskCells) -> None:
        """Write into the head's settings the classes, which genes are learned from and which are held out.

        Raises
        ------
        ConfigError, DataError
            If too few of the genes are in the vocabulary and in the data, or a gene is to be held out that has no
            class.
        """
        known, unknown = genes_of_vocab(self.gene_labels, data.vocab)
        measured = _measured(data.source, data.vocab)
        absent = [gene for gene in known if gene not in measured]
        for genes, where in ((unknown, "in the vocabulary of the base model"), (absent, "measured in the data")):
            if genes:
                _log.warning(
                    f"{len(genes):,} of the {len(self.gene_labels):,} genes of finetune.gene_labels are not {where}: "
                    f"{listed(genes, 10)}"
                )
        there = {gene: name for gene, name in known.items() if gene in measured}
        asked, seed = self.config.held_out_genes, config.data.split.seed
        if isinstance(asked, list):
            train, held_out = split_named_genes(there, asked, data.vocab)
        else:
            train, held_out = split_genes(there, held_out=asked, seed=seed)
        head: Any = config.model.head  # type: ignore[attr-defined]
        head.classes = sorted(set(train.values()))
        dropped = sorted(set(self.gene_labels.values()) - set(head.classes))
        if dropped:
            _log.warning(
                f"{len(dropped):,} of the classes of finetune.gene_labels have no gene that is learned from, and are "
                f"left out: {listed(dropped, 10)}"
            )
        head.train_genes = train
        head.held_out_genes = {gene: name for gene, name in held_out.items() if name in head.classes}
        warn_of_unknown(head.classes, "a class of genes")
        _log.info(f"{len(train):,} genes are learned from, {len(head.held_out_genes):,} are held out")

    @classmethod
    def predictor(cls, bundle: Bundle, naming: Naming) -> GeneClassPredictor:
        """Return what names the classes of genes."""
        return GeneClassPredictor(bundle.model, bundle.model_config.head, bundle.vocab, naming)  # type: ignore[attr-defined]

    def score(self, trained: TrainedCells) -> list[Record]:
        """Score the classes of held-out genes beside the most frequent class and a guess by expression alone.

        Genes are judged by held-out cells; without any by the training cells.
        """
        classes: Any = trained.bundle.model_config.head.classes  # type: ignore[attr-defined]
        predictor = self.predictor(trained.bundle, Naming(unknown=free_name(classes)))
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


def _measured(source: CellSource, vocab: GeneVocab) -> set[str]:
    """Return the genes of the vocabulary that some file has."""
    tokens = np.unique(np.concatenate([vocab.map_panel(panel) for panel in source.panels]))
    return {vocab.genes[int(number)] for number in vocab.gene_numbers[tokens[tokens >= 0]] if number >= 0}
