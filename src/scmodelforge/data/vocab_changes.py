"""What a vocabulary is made of once it has fewer genes, more genes, or names of other species' genes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge.data.genes import human_genes
from scmodelforge.data.lookup import GeneLookup
from scmodelforge.data.orthologs import Policy, human_genes_of
from scmodelforge.data.special_tokens import kept_in_order
from scmodelforge.data.vocab_checks import check_own, genes_to_add

if TYPE_CHECKING:
    from scmodelforge.data.vocab import GeneVocab

__all__ = ["extended", "restricted", "with_orthologs"]


def restricted(vocab: GeneVocab, genes: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a vocabulary of some genes of another, as ``GeneVocab.restrict`` says."""
    wanted = set(genes)
    check_own(f"gene_vocab '{vocab.name}'", wanted, vocab.genes)
    keep = [i for i, gene in enumerate(vocab.genes) if gene in wanted]
    return {
        "genes": [vocab.genes[i] for i in keep],
        "name": vocab.name,
        "symbols": [vocab.symbols[i] for i in keep],
        "special_tokens": kept_in_order(vocab.special_tokens, vocab.gene_tokens[np.array(keep, dtype=np.int64)]),
        "other_names": {name: gene if gene in wanted else None for name, gene in vocab.other_names.items()},
        "aliases": vocab.aliases,
    }


def extended(vocab: GeneVocab, genes: Iterable[str], lookup: GeneLookup) -> dict[str, Any]:
    """Return the arguments of a vocabulary with more genes, as ``GeneVocab.extended`` says."""
    new = genes_to_add(f"gene_vocab '{vocab.name}'", genes, lookup)
    added = set(new)
    return {
        "genes": [*vocab.genes, *new],
        "name": vocab.name,
        "symbols": [*vocab.symbols, *map(human_genes().symbol_of.get, new)],
        "special_tokens": vocab.special_tokens,
        "other_names": {name: gene for name, gene in vocab.other_names.items() if name not in added},
        "aliases": vocab.aliases,
    }


def with_orthologs(vocab: GeneVocab, species: Sequence[str], policy: Policy, lookup: GeneLookup) -> dict[str, Any]:
    """Return the arguments of a vocabulary with other species' names, as ``GeneVocab.with_orthologs`` says."""
    human_of = human_genes_of(species, policy)
    names = sorted({name for human in human_of.values() for name in human})
    tokens = lookup.match(names, ignore_case=False)[0].tolist()
    gene_of = {
        name: vocab.genes[vocab.gene_numbers[token]] for name, token in zip(names, tokens, strict=True) if token >= 0
    }
    own = set(vocab.genes)
    found = {
        name: next((gene_of[each] for each in human if each in gene_of), None)
        for name, human in human_of.items()
        if name not in own
    }
    return {
        "genes": vocab.genes,
        "name": vocab.name,
        "symbols": vocab.symbols,
        "special_tokens": vocab.special_tokens,
        "other_names": vocab.other_names | found,
        "aliases": vocab.aliases,
    }
