"""Edges among the genes that were measured: which of them are candidates, and which of these are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scmodelforge.data.genes import human_genes
from scmodelforge.data.lookup import GeneLookup
from scmodelforge.eval.networks.edges import EdgeTable

__all__ = ["Network", "match_edges"]


@dataclass(frozen=True, slots=True)
class Network:
    """Known edges over a list of genes.

    The candidates are all pairs of a transcription factor with a known edge and a gene other than itself. An unknown
    pair counts as no edge, though it may be one that nobody looked for: precision is a lower bound.

    Attributes
    ----------
    name
        Name of the network.
    genes
        The genes, G of them.
    tfs
        Number of each factor that has a known edge, shape (T,), int64, sorted by the genes' names.
    tf_names
        What the network calls each factor, T of them.
    truth
        Whether a pair is a known edge, shape (T, G), bool.
    facts
        What was found of the edges, and what dropped.
    left_out
        Pairs that are no candidates beside those of a gene with itself, shape (T, G), bool.
    """

    name: str
    genes: tuple[str, ...]
    tfs: np.ndarray
    tf_names: tuple[str, ...]
    truth: np.ndarray
    facts: dict[str, int] = field(default_factory=dict)
    left_out: np.ndarray | None = None

    @property
    def is_candidate(self) -> np.ndarray:
        """Whether a pair is scored, shape (T, G), bool."""
        found = np.ones(self.truth.shape, dtype=bool) if self.left_out is None else ~self.left_out
        found[np.arange(len(self.tfs)), self.tfs] = False
        return found

    def edges(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return factor and target of each known edge, given a name of each gene."""
        rows, targets = np.nonzero(self.truth)
        return [(names[tf], names[gene]) for tf, gene in zip(self.tfs[rows].tolist(), targets.tolist(), strict=True)]

    def without(self, other: Network) -> Network:
        """Return the network without the edges of another one over the same genes, for choices that may not see it."""
        row_of = {int(tf): row for row, tf in enumerate(other.tfs)}
        left_out = np.zeros_like(self.truth)
        for row, tf in enumerate(self.tfs):
            if int(tf) in row_of:
                left_out[row] = other.truth[row_of[int(tf)]]
        return replace(self, truth=self.truth & ~left_out, left_out=left_out)


def match_edges(
    table: EdgeTable, genes: Sequence[str], *, symbols: Sequence[str | None] | None = None, exact: bool = False
) -> Network:
    """Find the ends of edges among measured genes.

    Parameters
    ----------
    table
        The edges.
    genes
        Measured genes, each once: symbols or Ensembl ids.
    symbols
        Symbol of each gene, ``None`` where unknown; by default those of human genes.
    exact
        Take a gene for another only if both are spelled alike. Otherwise human genes are also found by their Ensembl
        id, their symbol and their aliases, as genes of a file are in a vocabulary; but never by letter case alone,
        which would take genes of mice for human ones.

    Returns
    -------
    The network; without factors if no edge is among the genes.
    """
    names, codes = np.unique(np.concatenate([table.tfs, table.targets]), return_inverse=True)
    numbers = _numbers(names.tolist(), genes, symbols, exact=exact)[codes]
    tfs, targets = numbers[: len(table)], numbers[len(table) :]
    is_measured = (tfs >= 0) & (targets >= 0)
    is_self = is_measured & (tfs == targets)
    edges = np.unique(np.stack([tfs, targets], axis=1)[is_measured & ~is_self], axis=0)
    own = np.array(sorted(set(edges[:, 0].tolist()), key=lambda number: genes[number]), dtype=np.int64)
    called = dict(zip(tfs[::-1].tolist(), table.tfs[::-1].tolist(), strict=True))
    truth = np.zeros((len(own), len(genes)), dtype=bool)
    row_of = np.full(len(genes), -1)
    row_of[own] = np.arange(len(own))
    truth[row_of[edges[:, 0]], edges[:, 1]] = True
    facts = {
        **table.facts,
        "edges_of_unmeasured_genes": int((~is_measured).sum()),
        "edges_to_self": int(is_self.sum()),
        "edges_merged": int((is_measured & ~is_self).sum()) - len(edges),
        "edges_scored": len(edges),
        "tfs_in_network": len(np.unique(table.tfs)),
        "tfs_scored": len(own),
        "tfs_unmeasured": len(np.unique(table.tfs[tfs < 0])),
        "targets_unmeasured": len(np.unique(table.targets[targets < 0])),
    }
    return Network(table.name, tuple(genes), own, tuple(called[number] for number in own.tolist()), truth, facts)


def _numbers(
    names: list[str], genes: Sequence[str], symbols: Sequence[str | None] | None, *, exact: bool
) -> np.ndarray:
    """Return the number of the gene that each name stands for, int64, -1 for none."""
    if exact:
        number_of = {gene: number for number, gene in enumerate(genes)}
        return np.array([number_of.get(name, -1) for name in names], dtype=np.int64)
    if symbols is None:
        known = human_genes().symbol_of
        symbols = [known.get(gene) for gene in genes]
    lookup = GeneLookup(list(genes), symbols, tokens=np.arange(len(genes)))
    return lookup.match(names, ignore_case=False)[0].astype(np.int64)
