"""Finding the genes of a file among the genes of a vocabulary, whatever they are called there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from scmodelforge.data.aliases import gene_of_alias
from scmodelforge.data.genes import human_genes, is_mostly_human, split_named, strip_version

__all__ = ["GeneLookup"]

_AMBIGUOUS = -2


class GeneLookup:
    """Tokens under all names of their genes.

    Parameters
    ----------
    genes
        Gene ids.
    symbols
        Symbol of each gene, ``None`` where unknown.
    tokens
        Token of each gene, shape (G,).
    other_names
        Further names, with the gene that has each, ``None`` for names that are known to be no gene's of these. With
        any, letter case is never ignored, since it is what tells the symbols of some species apart.
    aliases
        Whether aliases and previous symbols are names.
    """

    def __init__(
        self,
        genes: Sequence[str],
        symbols: Sequence[str | None],
        *,
        tokens: np.ndarray,
        other_names: Mapping[str, str | None] | None = None,
        aliases: bool = True,
    ) -> None:
        self._genes = genes
        self._symbols = symbols
        self._tokens = tokens.tolist()
        self._other_names = other_names or {}
        self._uses_aliases = aliases

    def match(self, gene_ids: Iterable[str], *, ignore_case: bool = True) -> tuple[np.ndarray, int]:
        """Look up genes.

        Returns
        -------
        The token of each gene, shape (G,), int32, -1 where there is none; and how many were found only when letter
        case was ignored. Neither such a match nor one by an alias ever takes a token that another gene has by its
        proper name, and of two aliases of one gene both find nothing.
        """
        names = [str(gene) for gene in gene_ids]
        exact = self._exact
        tokens = np.fromiter((exact.get(name, -1) for name in names), dtype=np.int32, count=len(names))
        for i in np.flatnonzero(tokens < 0):
            tokens[i] = exact.get(_bare(names[i]), -1)
        taken = set(tokens.tolist())
        open_names = {names[i] for i in np.flatnonzero(tokens < 0)}.difference(self._refused)
        by_alias = self._by_alias(open_names, taken)
        for i in np.flatnonzero(tokens < 0):
            tokens[i] = by_alias.get(names[i], -1)
        by_case = 0
        if not ignore_case or self._other_names:
            return tokens, by_case
        taken.update(by_alias.values())
        for i in np.flatnonzero(tokens < 0):
            token = self._folded.get(strip_version(names[i].upper()), -1)
            if token >= 0 and token not in taken:
                tokens[i] = token
                by_case += 1
        return tokens, by_case

    def _by_alias(self, names: Iterable[str], taken: Collection[int]) -> dict[str, int]:
        """Return the token of each name that alone of the names is an alias of a gene whose token is not taken."""
        found: dict[int, list[str]] = {}
        for name in names:
            named = split_named(name)
            symbol = named[0] if named else strip_version(name)
            token = self._exact.get(symbol, -1) if named else -1
            if token < 0:
                token = self._exact.get(self._gene_of_alias.get(symbol, ""), -1)
            if token >= 0 and token not in taken:
                found.setdefault(token, []).append(name)
        return {several[0]: token for token, several in found.items() if len(several) == 1}

    @cached_property
    def _gene_of_alias(self) -> Mapping[str, str]:
        return gene_of_alias() if self._uses_aliases else {}

    @cached_property
    def _refused(self) -> frozenset[str]:
        return frozenset(name for name, gene in self._other_names.items() if gene is None)

    @cached_property
    def _exact(self) -> dict[str, int]:
        """Token of each name. The vocabulary's ids go before its symbols, these before the shipped tables' names."""
        found = dict(zip(self._genes, self._tokens, strict=True))
        own: list[Iterable[str | None]] = [map(_bare, self._genes), self._symbols]
        for names in own:
            for name, token in zip(names, self._tokens, strict=True):
                if name:
                    found.setdefault(name, token)
        table = human_genes()
        for gene in {table.ensembl_of.get(name, name) for name in found} & table.symbol_of.keys():
            row = (gene, table.symbol_of[gene], table.other_symbol_of.get(gene, gene))
            token = next(found[name] for name in row if name in found)
            for name in row:
                found.setdefault(name, token)
        for outdated, token in self._of_outdated_names(found).items():
            found.setdefault(outdated, token)
        of_gene = dict(zip(self._genes, self._tokens, strict=True))
        for other, own_gene in self._other_names.items():
            if own_gene is not None:
                found.setdefault(other, of_gene[own_gene])
        return found

    def _of_outdated_names(self, found: Mapping[str, int]) -> dict[str, int]:
        """Return tokens under the proper names of human genes that the vocabulary has under an alias."""
        table = human_genes()
        unknown = [(gene, token) for gene, token in zip(self._genes, self._tokens, strict=True) if not _is_human(gene)]
        if not unknown or not is_mostly_human(self._genes):
            return {}
        tokens_of: dict[str, list[int]] = {}
        for gene, token in unknown:
            proper = self._gene_of_alias.get(gene)
            if proper is not None and proper not in found:
                tokens_of.setdefault(proper, []).append(token)
        single = {gene: tokens[0] for gene, tokens in tokens_of.items() if len(tokens) == 1}
        symbols = {table.symbol_of[gene]: token for gene, token in single.items()}
        others = {table.other_symbol_of[gene]: token for gene, token in single.items() if gene in table.other_symbol_of}
        return single | others | symbols

    @cached_property
    def _folded(self) -> dict[str, int]:
        """Token of each name in capitals; a name that is two genes in capitals finds neither."""
        found: dict[str, int] = {}
        for name, token in self._exact.items():
            if found.setdefault(name.upper(), token) != token:
                found[name.upper()] = _AMBIGUOUS
        return found


def _bare(name: str) -> str:
    """Return the Ensembl id in a name, without version, or the name as it is."""
    named = split_named(name)
    return strip_version(name) if named is None else named[1]


def _is_human(name: str) -> bool:
    table = human_genes()
    return name in table.symbol_of or name in table.ensembl_of or _bare(name) in table.symbol_of
