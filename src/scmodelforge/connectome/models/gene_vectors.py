"""Which genes of a data set a model of single genes takes, and their vectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.data.genes import strip_version
from scmodelforge.tokenizers.vector_files import checked_vectors, is_flat, read_vectors

__all__ = ["GeneVectorsGiven", "SharedGenes", "facts_of_genes", "genes_from_facts", "required_genes", "shared_genes"]

_log = logging.getLogger(__name__)
_LISTED = 3

GeneVectorsGiven = Mapping[str, Any] | str | os.PathLike[str] | None


class SharedGenes(NamedTuple):
    """Genes that a data set has and that have a vector.

    Attributes
    ----------
    names
        Their names, in the order of the data set, N of them.
    columns
        Their columns in its X, shape (N,), int64, ascending.
    vectors
        Shape (N, D), float32; ``None`` if they are to be learned.
    """

    names: list[str]
    columns: np.ndarray
    vectors: np.ndarray | None


def shared_genes(given: GeneVectorsGiven, valid_genes: Sequence[str]) -> SharedGenes:
    """Return the genes to take, in the order of the data set, and say how many have no vector.

    Parameters
    ----------
    given
        Vectors by gene, a file that :func:`~scmodelforge.tokenizers.vector_files.read_vectors` reads, or ``None`` to
        take all genes and learn their vectors. A gene is looked up by its name, then by its id without a version. A
        vector of equal numbers counts as none.
    valid_genes
        Genes of the data set.

    Raises
    ------
    ConfigError, DataError
        (``ValueError``) If the vectors cannot be used, or no gene has one.
    """
    if given is None:
        _log.info(f"no gene vectors given: those of all {len(valid_genes):,} genes are learned")
        return SharedGenes(list(valid_genes), np.arange(len(valid_genes)), None)
    genes, vectors = _read(given)
    rows = {gene: row for row, (gene, has_none) in enumerate(zip(genes, is_flat(vectors), strict=True)) if not has_none}
    rows = {strip_version(gene): row for gene, row in rows.items()} | rows
    found = [rows.get(gene, rows.get(strip_version(gene), -1)) for gene in valid_genes]
    columns = np.flatnonzero(np.asarray(found) >= 0)
    if not len(columns):
        msg = (
            f"gene_embeddings has vectors of {len(genes):,} genes, named like '{genes[0]}', and none of the "
            f"{len(valid_genes):,} genes of the data set, named like '{valid_genes[0]}'; give vectors under the same "
            "names, or None to learn them."
        )
        raise DataError(msg)
    lost = [gene for gene, row in zip(valid_genes, found, strict=True) if row < 0]
    if lost:
        _log.warning(
            f"{len(lost):,} of {len(valid_genes):,} genes have no vector and are left out: {listed(lost, _LISTED)}."
        )
    return SharedGenes([valid_genes[int(column)] for column in columns], columns, vectors[np.asarray(found)[columns]])


def required_genes(given: GeneVectorsGiven | SharedGenes, dataset: RegionPairDataset | None) -> SharedGenes:
    """Return the genes that a model takes of its data set; those of a saved model are known already.

    Raises
    ------
    ConfigError, DataError
        (``ValueError``) If there is no data set, or the vectors cannot be used.
    """
    if isinstance(given, SharedGenes):
        return given
    if not isinstance(dataset, RegionPairDataset):
        msg = f"region_pair_dataset is {type(dataset).__name__}; a RegionPairDataset, which names the genes, is needed."
        raise DataError(msg)
    return shared_genes(given, dataset.valid_genes)


def facts_of_genes(columns: Sequence[int], given: torch.Tensor | None) -> dict[str, Any]:
    """Return what a saved model says of its genes: their columns, and the length of vectors that were given."""
    return {"shared_columns": list(columns), "vector_width": None if given is None else given.shape[1]}


def genes_from_facts(facts: Mapping[str, Any]) -> SharedGenes:
    """Return the genes of a saved model; their vectors, zeros here, are among its weights."""
    columns, width = facts["shared_columns"], facts["vector_width"]
    vectors = None if width is None else np.zeros((len(columns), width), dtype=np.float32)
    return SharedGenes([facts["genes"][column] for column in columns], np.asarray(columns), vectors)


def _read(given: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    if isinstance(given, Mapping):
        genes = [str(gene) for gene in given]
        try:
            rows = [np.asarray(vector, dtype=np.float32) for vector in given.values()]
        except (TypeError, ValueError) as problem:
            msg = f"gene_embeddings holds something that is not a vector ({problem}); give numbers for each gene."
            raise DataError(msg) from problem
        return genes, checked_vectors("gene_embeddings", genes, rows)
    if not isinstance(given, str | os.PathLike):
        msg = (
            f"gene_embeddings is {type(given).__name__}; a mapping of genes to vectors, the path of a file of them, or "
            "None to learn them is needed."
        )
        raise ConfigError(msg)
    named = read_vectors(Path(given), setting="gene_embeddings")
    return named.genes, named.vectors
