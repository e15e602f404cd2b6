"""Small cells as tokens, with every kind of array a tokenizer may give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scmodelforge.config.schema import MaskingConfig, ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.measured import Measured
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives import get_objective

VOCAB = GeneVocab.from_genes([f"g{i:03d}" for i in range(200)], name="two hundred")


def make_tokens(
    lengths: list[int], *, seed: int = 0, bins: bool = True, cls: bool = True, data_pass: int | None = None
) -> TokenBlock:
    """Return cells of so many genes, each gene once, after ``<cls>``; values and bins are never 0 for genes."""
    rng = np.random.default_rng(seed)
    ids: list[np.ndarray] = []
    for length in lengths:
        genes = 4 + rng.permutation(200)[:length]
        ids.append(np.concatenate([[VOCAB.cls_id], genes]) if cls else genes)
    flat = np.concatenate([np.zeros(0), *ids]).astype(np.int32)
    is_gene = flat >= 4
    values = np.where(is_gene, rng.uniform(0.5, 9.0, len(flat)), 0).astype(np.float32)
    positions = np.arange(100, 100 + len(lengths), dtype=np.int64)
    return TokenBlock(
        offsets=np.cumsum([0, *map(len, ids)]).astype(np.int64),
        ids=flat,
        values=values,
        cell_index=positions,
        keys=cell_keys(seed, positions, data_pass=data_pass),
        bin_ids=np.where(is_gene, rng.integers(1, 50, len(flat)), 0).astype(np.int32) if bins else None,
    )


def with_measured(
    tokens: TokenBlock,
    *,
    panels: Sequence[np.ndarray] = (np.arange(4, 204),),
    panel_index: Sequence[int] | None = None,
    cut: Sequence[Sequence[int]] | None = None,
) -> TokenBlock:
    """Return cells of which is known what was measured: by default all genes, none of which had to be cut."""
    cut = [[]] * len(tokens) if cut is None else cut
    known = Measured(
        panels=tuple(np.asarray(panel, dtype=np.int32) for panel in panels),
        panel_index=np.zeros(len(tokens), np.int64) if panel_index is None else np.asarray(panel_index, np.int64),
        cut_offsets=np.cumsum([0, *map(len, cut)]).astype(np.int64),
        cut_ids=np.concatenate([np.zeros(0), *map(np.asarray, cut)]).astype(np.int32),
    )
    return replace(tokens, measured=known)


def genes_of(tokens: TokenBlock, cell: int) -> list[int]:
    """Return the genes of a cell, special tokens left out."""
    own = tokens.ids[tokens.offsets[cell] : tokens.offsets[cell + 1]]
    return own[own >= 4].tolist()


def masked_gene(**masking):
    """Return the objective with these masking settings."""
    config = TokenizerConfig(masking=MaskingConfig(**masking))
    return get_objective("masked_gene_prediction", vocab=VOCAB, tokenizer_config=config, model_config=ModelConfig())
