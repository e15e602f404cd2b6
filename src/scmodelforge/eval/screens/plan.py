"""Which perturbations are made in a cell, and which random ones they are compared with.

Random genes are drawn for each cell from the hash of its key and of the genes, so that they depend neither on the order
of the cells nor on that of the genes, and are the same whichever perturbations they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.eval.genes.changed_cells import CellTokens, Kind, Perturbation

__all__ = ["CellPlan", "GeneSet", "Screen"]

#: Numbers of genes that are changed together, ascending.
GeneSet = tuple[int, ...]


@dataclass(frozen=True)
class CellPlan:
    """What is done to one cell.

    Attributes
    ----------
    tested
        Numbers of the gene sets of the screen that can be changed in it, ascending, shape (n,).
    random
        By the number of genes of a set, sets of random genes to compare those of this size with.
    """

    tested: np.ndarray
    random: dict[int, list[GeneSet]]


@dataclass(frozen=True)
class Screen:
    """Perturbations, each to be made in each cell by itself.

    Attributes
    ----------
    kind
        What is done to genes.
    sets
        The genes of each perturbation.
    gene_tokens
        Token of each gene, shape (G,).
    is_gene
        Whether a token is a gene's, shape (V,), bool.
    max_length
        Most tokens of a cell.
    measured
        Genes that random ones are drawn from where these need not be expressed, shape (M,).
    num_random
        Sets of random genes in each cell and for each size of sets; 0 for none.
    seed
        Seed of these.
    keeps_zeros
        Whether tokens of genes that are not expressed are among those of a cell, with the value 0.
    """

    kind: Kind
    sets: Sequence[GeneSet]
    gene_tokens: np.ndarray
    is_gene: np.ndarray
    max_length: int
    measured: np.ndarray
    num_random: int = 10
    seed: int = 0
    keeps_zeros: bool = False

    def of_cell(self, cell: CellTokens, key: int) -> CellPlan:
        """Return what is done to a cell, whose key tells it from others."""
        there = self.expressed(cell)
        tested = self._made_of(there) if self.kind == "delete" else np.arange(len(self.sets))
        if not len(tested):
            return CellPlan(tested, {})
        pool = there if self.kind == "delete" else self.measured
        sizes = sorted({len(self.sets[number]) for number in tested.tolist()})
        return CellPlan(tested, {size: self._drawn(pool, key, size) for size in sizes if self.num_random})

    def expressed(self, cell: CellTokens) -> np.ndarray:
        """Return the numbers of the genes that a cell expresses, in the order of its tokens."""
        is_there = self.is_gene[cell.ids]
        if self.keeps_zeros:
            is_there = is_there & (cell.values > 0)
        return np.asarray(self.number_of[cell.ids[is_there]])

    def changed(self, cell: CellTokens, genes: GeneSet, *, is_set: bool) -> tuple[CellTokens, CellTokens]:
        """Return a cell before and after some genes, which can be, are changed."""
        one = Perturbation(self.kind, genes, keeps_zeros=self.keeps_zeros)
        tokens = self.gene_tokens[list(genes)]
        pair = cell.perturbed(one, tokens, self.is_gene, self.max_length, is_set=is_set)
        assert pair is not None
        return pair

    @cached_property
    def number_of(self) -> np.ndarray:
        """Number of the gene of each token, shape (V,), -1 where it is none's."""
        found = np.full(len(self.is_gene), -1, dtype=np.int64)
        found[self.gene_tokens] = np.arange(len(self.gene_tokens))
        return found

    @cached_property
    def _single(self) -> np.ndarray:
        """Number of the set of each gene alone, shape (G,), -1 where there is none."""
        found = np.full(len(self.gene_tokens), -1, dtype=np.int64)
        for number, genes in enumerate(self.sets):
            if len(genes) == 1:
                found[genes[0]] = number
        return found

    @cached_property
    def _several(self) -> list[int]:
        return [number for number, genes in enumerate(self.sets) if len(genes) > 1]

    def _made_of(self, there: np.ndarray) -> np.ndarray:
        """Return the sets all of whose genes are among these."""
        alone = self._single[there]
        known = set(there.tolist()) if self._several else set()
        more = [number for number in self._several if known.issuperset(self.sets[number])]
        return np.unique(np.concatenate([alone[alone >= 0], np.array(more, dtype=np.int64)]))

    def _drawn(self, pool: np.ndarray, key: int, size: int) -> list[GeneSet]:
        """Return different sets of random genes of a pool; fewer than wanted if it has not so many."""
        if len(pool) < size:
            return []
        hashed = [mix(self.seed, "random genes", key, pool)]
        if size == 1:
            first = np.argsort(hashed[0], kind="stable")[: self.num_random]
            return [(int(gene),) for gene in pool[first]]
        hashed = [mix(self.seed, "random genes", key, number, pool) for number in range(self.num_random)]
        drawn = [pool[np.argpartition(each, size - 1)[:size]] for each in hashed]
        return list(dict.fromkeys(tuple(sorted(map(int, genes))) for genes in drawn))
