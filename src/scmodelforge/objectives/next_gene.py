"""Next-gene prediction: a model names the genes of a cell, and the bin of each, one after another.

The order is drawn for each cell and pass, since a set of genes has none; then any part of a cell can be the beginning,
and the order tells nothing of values (ordered by expression, a bin is nearly known from the one before it). Part of
the cells begin with a prefix whose tokens see each other fully and are not asked for: a quarter, half or three
quarters of the tokens, as scGPT shares cells out (Cui et al. 2024, doi:10.1038/s41592-024-02201-0), or the first
token alone. ``labels`` and ``bin_ids`` at t describe the gene at t + 1.

Whoever knew all genes of a cell could only guess which of those left comes next in a random order, genes that had no
room in the sequence among them, since which these are is random too. The mean logarithm of their number is the floor of
the loss of genes, and goes with every batch. It is that of a model with ``gene_target: set`` as well, where the best
guess costs no more and no less in any order.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.draws import integers
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad, scatter
from scmodelforge.objectives.order import in_random_order

__all__ = ["NextGenePrediction"]

_PREFIX_QUARTERS = np.array([0, 1, 2, 3])


@register_objective("next_gene_prediction")
class NextGenePrediction:
    """Ask for the next gene and its bin.

    Draws are keyed by cell and gene: a cell gets the same row whatever else is in the batch and in whatever order its
    genes came. The special tokens a cell begins with stay at its beginning.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Not used.
    model_config
        Settings of the model: ``gene_order``, ``gene_loss_weight`` and ``max_seq_len``.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values", "bin_ids"})
    loss_terms: ClassVar[tuple[str, ...]] = ("next_gene", "expression_bin")
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id
        self._special_ids = np.array(sorted(vocab.special_ids))
        self._is_random = getattr(model_config, "gene_order", "random") == "random"
        self._weight = model_config.gene_loss_weight

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.pad` gives of the cells in their order, with ``labels``,
        ``bin_ids``, ``prefix_len``, ``no_repeats``, ``target_index``, ``num_targets`` and, of a random order,
        ``floors``. ``bin_ids`` are those of the labels; nothing else is hidden, since the model sees only what came
        before.
        """
        if self._is_random:
            tokens = in_random_order(tokens, self._is_special(tokens.ids))
        batch = pad(tokens, pad_id=self._pad_id)
        lengths, places = tokens.lengths, batch["pack_index"]
        shape = (len(tokens), batch["input_ids"].shape[1])
        column = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], lengths)
        prefix = self._prefix_lengths(tokens)
        left = np.repeat(lengths + _num_cut(tokens), lengths) - column  # this gene and all that may come instead
        is_asked = (column >= np.repeat(prefix, lengths)) & ~self._is_special(tokens.ids)  # a prefix is 1 at least
        asked = np.flatnonzero(is_asked)
        target_index = places[asked] - 1
        batch["labels"] = scatter(tokens.ids[asked], target_index, shape, fill=IGNORE_INDEX, dtype=torch.int64)
        self._ask_how_much(batch, tokens, asked, target_index)
        batch["prefix_len"] = torch.from_numpy(prefix)
        batch["no_repeats"] = torch.tensor(True)
        batch["target_index"] = target_index
        batch["num_targets"] = dict.fromkeys(self.loss_terms, len(asked))
        if len(asked) and self._is_random:
            batch["floors"] = {"next_gene": self._weight * float(np.log(left[asked]).mean())}
        return batch

    def _is_special(self, ids: np.ndarray) -> np.ndarray:
        return np.isin(ids, self._special_ids)

    def _ask_how_much(self, batch: Batch, tokens: TokenBlock, asked: np.ndarray, target_index: np.ndarray) -> None:
        """Put what is asked of the expression of the genes asked for into the batch."""
        if tokens.bin_ids is None:
            msg = "next_gene_prediction needs bins, which the tokenizer does not give; set tokenizer.strategy."
            raise ConfigError(msg)
        shape = (len(tokens), batch["input_ids"].shape[1])
        bins = tokens.bin_ids[asked]
        batch["bin_ids"] = scatter(bins, target_index, shape, fill=IGNORE_INDEX, dtype=torch.int64)

    def _prefix_lengths(self, tokens: TokenBlock) -> np.ndarray:
        """Return how many tokens of each cell are given, shape (n,), int64, at least 1."""
        quarters = _PREFIX_QUARTERS[integers(tokens.keys, "prefix", 0, len(_PREFIX_QUARTERS))]
        return np.maximum(1, quarters * tokens.lengths // 4).astype(np.int64)


def _num_cut(tokens: TokenBlock) -> np.ndarray:
    """Return how many expressed genes of each cell had no room, shape (n,), int64; 0 where it is not known."""
    if tokens.measured is None:
        return np.zeros(len(tokens), dtype=np.int64)
    return np.diff(tokens.measured.cut_offsets)
