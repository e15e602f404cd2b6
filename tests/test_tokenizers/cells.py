"""Small cells, and the rank value tokens of one cell written down step by step."""

from __future__ import annotations

import statistics
from fractions import Fraction

import numpy as np

from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.medians import GeneMedians
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

VOCAB = GeneVocab.from_genes([f"g{i:02d}" for i in range(20)], name="twenty")


def make_block(counts: np.ndarray, gene_ids: list[str], *, first: int = 0, zeros: bool = False) -> CellBlock:
    """Return dense counts as a block; ``zeros`` stores the zeros too."""
    counts = np.asarray(counts, dtype=np.float32)
    stored = np.ones_like(counts, dtype=bool) if zeros else counts != 0
    cells, genes = np.nonzero(stored)
    indptr = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(np.int64)
    positions = first + np.arange(len(counts), dtype=np.int64)
    panel = Panel(np.array(gene_ids, dtype=object), "cells.h5ad")
    return CellBlock(counts[cells, genes], genes.astype(np.int32), indptr, panel, positions)


def make_tokenizer(medians: dict[str, float] | None = None, **settings) -> RankValueTokenizer:
    values = np.full(len(VOCAB), np.nan)
    for gene, median in (medians or {}).items():
        values[VOCAB.map([gene])[0]] = median
    config = RankValueConfig.model_validate(settings)
    return RankValueTokenizer(config, VOCAB, medians=GeneMedians(values, "exact", 7))


def encode(tokenizer, block: CellBlock) -> TokenBlock:
    return tokenizer.bind(block.panel).encode(block, np.arange(len(block), dtype=np.uint64))


def cell(tokens: TokenBlock, number: int) -> tuple[list[int], list[float]]:
    own = slice(tokens.offsets[number], tokens.offsets[number + 1])
    return tokens.ids[own].tolist(), tokens.values[own].tolist()


def genes_of(tokens: TokenBlock, number: int) -> list[str]:
    """Return a cell's genes, without the token at its beginning."""
    first = len(VOCAB.special_tokens)
    return [VOCAB.genes[token - first] for token in cell(tokens, number)[0] if token >= first]


def middle_of(medians: dict[str, int]) -> float:
    """Return the median that genes without one count with."""
    return statistics.median(medians.values()) if medians else 1


def reference(
    counts: list[int], gene_ids: list[str], medians: dict[str, int], *, max_genes: int, add_cls: bool
) -> tuple[list[int], list[float]]:
    """Rank the genes of one cell in exact arithmetic."""
    total = sum(counts)
    summed: dict[str, int] = {}
    for gene, count in zip(gene_ids, counts, strict=True):
        if count > 0 and gene in VOCAB.genes:
            summed[gene] = summed.get(gene, 0) + count
    middle = middle_of(medians)
    token = {gene: len(VOCAB.special_tokens) + i for i, gene in enumerate(VOCAB.genes)}
    scores = {gene: Fraction(summed[gene], total) / Fraction(medians.get(gene, middle)) for gene in summed}
    ranked = sorted(summed, key=lambda gene: (-scores[gene], token[gene]))
    ids = [token[gene] for gene in ranked]
    values = [float(np.float32(np.log1p(summed[gene] / total * 10_000.0))) for gene in ranked]
    if add_cls:
        ids, values = [VOCAB.cls_id, *ids], [0.0, *values]
    return ids[:max_genes], values[:max_genes]
