"""What a model says of the classes of genes: of each gene the mean over the cells that express it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.finetuning.predictions import Naming

__all__ = ["GeneClassPredictor"]


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

    def __init__(self, model: nn.Module, config: Any, vocab: GeneVocab, naming: Naming) -> None:
        super().__init__()
        if naming.unknown in config.classes:
            msg = (
                f"'{naming.unknown}' is a class of genes of the model; choose another word for unknown genes with "
                "--unknown NAME (tl.predict: unknown=NAME)."
            )
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
