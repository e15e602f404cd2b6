"""Vectors of genes, with the expression of these genes in training cells for baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.draws import mix, uniforms
from scmodelforge.data.genes import human_genes
from scmodelforge.data.lookup import GeneLookup

__all__ = ["GeneVectors", "chosen_vectors", "gene_keys", "random_vectors"]


@dataclass(frozen=True, slots=True)
class GeneVectors:
    """What ``BenchmarkInputs.gene_embeddings`` holds, or several of them by their kind.

    Attributes
    ----------
    names
        Genes, each once: Ensembl ids or symbols. Results do not depend on their order.
    vectors
        Vector of each gene, shape (G, H), float32.
    kind
        ``input``: the model's table of tokens. ``contextual``: the mean hidden state of the gene's token over cells.
    counts
        Expression of the genes in training cells, CSR (n, G): counts, or what they are divided by is the same within a
        cell; not logged. For baselines; ``None`` leaves out those that need it.
    symbols
        Symbol of each gene, ``None`` where unknown; by default those of human genes.
    num_cells
        Cells whose hidden states a contextual vector is the mean of, shape (G,).

    Raises
    ------
    DataError
        If the arrays do not fit each other, a gene is there twice, or a vector is not finite.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    kind: Literal["input", "contextual"] = "input"
    counts: sp.csr_matrix | None = None
    symbols: tuple[str | None, ...] | None = None
    num_cells: np.ndarray | None = None

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors, dtype=np.float32)
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        object.__setattr__(self, "vectors", vectors)
        if vectors.ndim != 2 or len(vectors) != len(self.names):
            msg = f"{len(self.names):,} genes and vectors of shape {vectors.shape}; one row a gene is needed."
            raise DataError(msg)
        if len(set(self.names)) < len(self.names):
            msg = f"{len(self.names) - len(set(self.names)):,} genes have several vectors; give each gene one."
            raise DataError(msg)
        if self.counts is not None and self.counts.shape[1] != len(self.names):
            msg = f"counts of {self.counts.shape[1]:,} genes for {len(self.names):,} vectors; both need the same genes."
            raise DataError(msg)
        is_bad = ~np.isfinite(vectors).all(axis=1)
        if is_bad.any():
            msg = (
                f"the vectors of {int(is_bad.sum()):,} of {len(vectors):,} genes are NaN or infinite (the first: "
                f"{self.names[int(np.flatnonzero(is_bad)[0])]}); leave those genes out, or train again."
            )
            raise DataError(msg)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_constant(self) -> bool:
        """Whether all genes have the same vector."""
        return len(self) == 0 or bool((self.vectors == self.vectors[0]).all())

    @property
    def labels(self) -> list[str]:
        """What people call the genes: the symbol, or the name where there is none."""
        known = human_genes().symbol_of
        symbols = self.symbols or tuple(known.get(name) for name in self.names)
        return [symbol or name for name, symbol in zip(self.names, symbols, strict=True)]

    def find(self, genes: Sequence[str]) -> np.ndarray:
        """Return the number of each gene by its Ensembl id, symbol or alias, int64; -1 where it has no vector."""
        known = human_genes().symbol_of
        symbols = self.symbols or [known.get(name) for name in self.names]
        lookup = GeneLookup(list(self.names), symbols, tokens=np.arange(len(self)))
        return lookup.match(genes, ignore_case=False)[0].astype(np.int64)

    def select(self, genes: np.ndarray) -> GeneVectors:
        """Return some genes, by their numbers, in the given order."""
        return GeneVectors(
            names=tuple(self.names[number] for number in genes),
            vectors=self.vectors[genes],
            kind=self.kind,
            counts=None if self.counts is None else self.counts[:, genes],
            symbols=None if self.symbols is None else tuple(self.symbols[number] for number in genes),
            num_cells=None if self.num_cells is None else self.num_cells[genes],
        )


def chosen_vectors(given: GeneVectors | Mapping[str, GeneVectors], kind: str) -> GeneVectors:
    """Return the vectors of a kind, of several or of one.

    Raises
    ------
    DataError
        If they are of another kind.
    """
    found: GeneVectors | None
    if isinstance(given, GeneVectors):
        kinds, found = [str(given.kind)], given if given.kind == kind else None
    else:
        kinds, found = list(given), given.get(kind)
    if found is None:
        there = ", ".join(kinds) or "none"
        msg = f"gene vectors are '{there}', the benchmark wants '{kind}'; set its 'vectors' to what there is."
        raise DataError(msg)
    return found


def gene_keys(names: Sequence[str]) -> np.ndarray:
    """Return a hash of each gene's name, shape (G,), uint64: the base of draws that know no order of genes."""
    digests = [blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


def random_vectors(names: Sequence[str], dim: int, *, seed: int) -> np.ndarray:
    """Return standard normal draws that depend on the seed and the gene's name alone, shape (G, dim), float32."""
    keys = mix(seed, "random gene vectors", gene_keys(names))[:, None]
    counters = np.arange(dim)[None, :]
    radius = np.sqrt(-2 * np.log1p(-uniforms(keys, "radius", counters)))
    return np.asarray(radius * np.cos(2 * np.pi * uniforms(keys, "angle", counters)), dtype=np.float32)
