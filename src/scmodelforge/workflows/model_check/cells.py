"""Synthetic cells of three types, as a tokenizer gives them, and changes of the batches made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.measured import Measured
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = [
    "NUM_BINS",
    "VOCAB_SIZE",
    "copied",
    "first_cells",
    "make_cells",
    "make_vocab",
    "tensors",
    "widened",
    "without",
]

NUM_BINS = 8
_NUM_GENES, _NUM_TYPES, _NUM_CELLS = 60, 3, 24
VOCAB_SIZE = _NUM_GENES + 4


def make_vocab() -> GeneVocab:
    """Return a vocabulary of 60 genes and the special tokens."""
    return GeneVocab.from_genes([f"GENE{i}" for i in range(_NUM_GENES)], name="synthetic")


def make_cells(vocab: GeneVocab, seed: int) -> TokenBlock:
    """Return 24 cells of 5 to 19 tokens, ``<cls>`` first, and in third place one that has nothing else.

    A type has 20 genes of its own, which are most of what its cells express, each with a level of its own.
    """
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0.5, 4.0, (_NUM_TYPES, _NUM_GENES))
    own = np.arange(_NUM_GENES) % _NUM_TYPES
    ids, values, lengths = [], [], []
    for cell in range(_NUM_CELLS):
        kind = cell % _NUM_TYPES
        weights = np.where(own == kind, 15.0, 1.0)
        number = 0 if cell == 2 else 18 if cell == 0 else int(rng.integers(4, 18))
        genes = rng.choice(_NUM_GENES, number, replace=False, p=weights / weights.sum())
        expressed = levels[kind, genes] * rng.uniform(0.9, 1.1, number)
        order = np.argsort(-expressed)
        ids.append(np.concatenate([[vocab.cls_id], vocab.gene_tokens[genes[order]]]))
        values.append(np.concatenate([[0.0], expressed[order]]))
        lengths.append(number + 1)
    joined = np.concatenate(values).astype(np.float32)
    bins = np.minimum(np.ceil(joined * (NUM_BINS - 1) / 4.5), NUM_BINS - 1).astype(np.int32)
    positions = np.arange(_NUM_CELLS)
    return TokenBlock(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ids=np.concatenate(ids).astype(np.int32),
        values=joined,
        cell_index=positions,
        keys=cell_keys(seed, positions),
        bin_ids=bins,
        measured=_all_measured(vocab),
    )


def _all_measured(vocab: GeneVocab) -> Measured:
    panel = vocab.gene_tokens
    nothing = np.zeros(0, dtype=np.int32)
    return Measured((panel,), np.zeros(_NUM_CELLS, np.int64), np.zeros(_NUM_CELLS + 1, np.int64), nothing)


def first_cells(tokens: TokenBlock, number: int) -> TokenBlock:
    """Return the first cells of some."""
    return tokens.select(np.arange(number))


def tensors(batch: Any) -> dict[str, torch.Tensor]:
    """Return copies of what of a batch reaches a model."""
    return {name: value.clone() for name, value in batch.items() if isinstance(value, torch.Tensor)}


def copied(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch whose tensors a model may change without harm."""
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def without(batch: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    """Return a batch without some keys."""
    return {name: value for name, value in batch.items() if name not in names}


def widened(batch: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """Return a batch with more padding on the right."""
    shape = batch["input_ids"].shape
    wide = dict(batch)
    for name, value in batch.items():
        if value.shape == shape:
            wide[name] = functional.pad(value, (0, number), value=IGNORE_INDEX if name == "labels" else 0)
    return wide
