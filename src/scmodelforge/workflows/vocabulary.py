"""The vocabulary of a run: the genes of its settings, and of these the ones its training cells speak for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig, PreprocessingConfig, RunConfig
from scmodelforge.data.filters import CellLimits, ExpressingCells
from scmodelforge.data.hvg import HighlyVariable
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.scan import scan
from scmodelforge.data.vocab import GeneVocab

__all__ = ["build_vocab", "check_vocab_size", "chooses_genes", "require_genes", "select_genes"]

_log = logging.getLogger(__name__)


def build_vocab(config: DataConfig, source: CellSource) -> GeneVocab:
    """Make the vocabulary of the settings and check that every file shares genes with it."""
    vocab = _chosen(config, source)
    if config.orthologs is not None and config.gene_vocab != "from_data":
        vocab = vocab.with_orthologs(config.orthologs.all_species(), config.orthologs.policy)
    require_genes(vocab, source, name=f"gene_vocab '{vocab.name}'")
    return vocab


def require_genes(vocab: GeneVocab, source: CellSource, *, name: str) -> None:
    """Check that every file shares genes with a vocabulary, called by a name in what is said of each."""
    for panel in source.panels:
        coverage = vocab.require_overlap(panel)
        repeats = (
            f"; {coverage.repeats:,} of them share a gene with another, and are summed" if coverage.repeats else ""
        )
        _log.info(f"{panel.name}: {coverage.known:,} of {coverage.total:,} genes are in {name}{repeats}")


def select_genes(
    config: PreprocessingConfig,
    source: CellSource,
    vocab: GeneVocab,
    is_train: Callable[[np.ndarray], np.ndarray],
    *,
    expects: Literal["counts", "any"],
) -> GeneVocab:
    """Restrict the vocabulary to genes in enough training cells and the highly variable of them, as settings ask."""
    if not chooses_genes(config):
        return vocab
    common = ExpressingCells(vocab, is_train)
    visitors: list[Any] = [common]
    variable = None
    if config.hvg_selection is not None:
        column = config.hvg_batch_column
        batches = None if column is None else source.obs(column)[0]
        variable = HighlyVariable(vocab, config.hvg_selection, flavor=config.hvg_flavor, batches=batches, rows=is_train)
        visitors.append(variable)
        expects = "counts" if config.hvg_flavor == "seurat_v3" else expects
    scan(source, vocab, expects=expects, visitors=visitors, limits=CellLimits(config))
    is_common = _common_genes(common.counts, vocab, config.min_cells_per_gene)
    if variable is None:
        return vocab.restrict(vocab.genes[gene] for gene in np.flatnonzero(is_common))
    selected = variable.select(is_common)
    _log.info(f"{len(selected):,} highly variable genes selected over {variable.num_cells:,} training cells")
    return vocab.restrict(selected)


def chooses_genes(config: PreprocessingConfig) -> bool:
    """Tell whether the vocabulary depends on the cells."""
    return config.hvg_selection is not None or config.min_cells_per_gene is not None


def check_vocab_size(config: RunConfig, vocab: GeneVocab) -> None:
    """Refuse a ``model.vocab_size`` that is not the vocabulary's, and a size that the model's settings refuse."""
    if config.model.vocab_size not in (None, len(vocab)):
        msg = (
            f"model.vocab_size is {config.model.vocab_size} but gene_vocab '{vocab.name}' has {len(vocab)} tokens, "
            "special ones included; leave model.vocab_size out."
        )
        raise ConfigError(msg)
    if hasattr(config.model, "check_vocab_size"):
        config.model.check_vocab_size(len(vocab))


def _chosen(config: DataConfig, source: CellSource) -> GeneVocab:
    setting, orthologs = config.gene_vocab, config.orthologs
    if isinstance(setting, list):
        return GeneVocab.from_genes(setting, name="data.gene_vocab")
    if setting == "human_protein_coding":
        return GeneVocab.from_name(setting)
    if setting != "from_data":
        return GeneVocab.from_file(setting)
    shared = {"union": 1, "intersection": len(source.panels)}
    panels = config.gene_vocab_panels
    min_files = panels if isinstance(panels, int) else shared[panels]
    if orthologs is None:
        return GeneVocab.from_panels(source.panels, min_files=min_files)
    return GeneVocab.from_panels(
        source.panels, min_files=min_files, species=orthologs.all_species(), policy=orthologs.policy
    )


def _common_genes(counts: np.ndarray, vocab: GeneVocab, least: int | None) -> np.ndarray:
    """Return which genes enough training cells express, shape (V,), bool."""
    if least is None:
        return np.ones(len(counts), dtype=bool)
    is_common = counts >= least
    if not is_common.any():
        msg = (
            f"data.preprocessing.min_cells_per_gene is {least:,}, but no gene of gene_vocab '{vocab.name}' is "
            f"expressed in more than {counts.max():,} training cells; lower it."
        )
        raise ConfigError(msg)
    _log.info(
        f"left out {np.count_nonzero(~is_common):,} of {len(is_common):,} genes, in fewer than {least:,} training "
        "cells (data.preprocessing.min_cells_per_gene)"
    )
    return is_common
