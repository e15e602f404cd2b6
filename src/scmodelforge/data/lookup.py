"""Finding the genes of a file among the genes of a vocabulary, whatever they are called there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.genes import human_protein_coding, strip_version

__all__ = ["GeneLookup", "read_gene_list"]

_AMBIGUOUS = -2
_HEADINGS = ("gene", "ensembl", "ensembl_id")


class GeneLookup:
    """Tokens under all names of their genes.

    Parameters
    ----------
    genes
        Gene ids, in token order.
    symbols
        Symbol of each gene, ``None`` where unknown.
    first_token
        Token of the first gene.
    """

    def __init__(self, genes: Sequence[str], symbols: Sequence[str | None], *, first_token: int) -> None:
        self._genes = genes
        self._symbols = symbols
        self._first = first_token

    def match(self, gene_ids: Iterable[str]) -> tuple[np.ndarray, int]:
        """Look up genes.

        Returns
        -------
        The token of each gene, shape (G,), int32, -1 where there is none; and how many were found only when letter
        case was ignored. Such a match never takes a token that another gene has by its proper name.
        """
        names = [str(gene) for gene in gene_ids]
        exact = self._exact
        tokens = np.fromiter((exact.get(name, -1) for name in names), dtype=np.int32, count=len(names))
        for i in np.flatnonzero(tokens < 0):
            tokens[i] = exact.get(strip_version(names[i]), -1)
        taken = set(tokens.tolist())
        by_case = 0
        for i in np.flatnonzero(tokens < 0):
            token = self._folded.get(strip_version(names[i].upper()), -1)
            if token >= 0 and token not in taken:
                tokens[i] = token
                by_case += 1
        return tokens, by_case

    @cached_property
    def _exact(self) -> dict[str, int]:
        """Token of each name. The vocabulary's ids go before its symbols, and these before the shipped table."""
        found = {gene: self._first + i for i, gene in enumerate(self._genes)}
        for names in (map(strip_version, self._genes), self._symbols):
            for i, name in enumerate(names):
                if name:
                    found.setdefault(name, self._first + i)
        table = human_protein_coding()
        for gene in {table.ensembl_of.get(name, name) for name in found} & table.symbol_of.keys():
            row = (gene, table.symbol_of[gene], table.other_symbol_of.get(gene, gene))
            token = next(found[name] for name in row if name in found)
            for name in row:
                found.setdefault(name, token)
        return found

    @cached_property
    def _folded(self) -> dict[str, int]:
        """Token of each name in capitals; a name that is two genes in capitals finds neither."""
        found: dict[str, int] = {}
        for name, token in self._exact.items():
            if found.setdefault(name.upper(), token) != token:
                found[name.upper()] = _AMBIGUOUS
        return found


def read_gene_list(path: Path) -> list[str]:
    """Return the genes of a text file, one a line, or the first column of a ``.tsv`` or ``.csv`` file.

    Blank lines and lines that begin with ``#`` are skipped, and so is a heading of the column.

    Raises
    ------
    DataError
        If the file is not text, holds no gene, or holds one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        msg = f"{path}: not a text file; data.gene_vocab needs one gene a line."
        raise DataError(msg) from None
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix)
    seen: dict[str, int] = {}
    is_first = True
    for number, line in enumerate(lines, start=1):
        gene = (line.split(separator)[0] if separator else line).strip().strip('"')
        if not gene or gene.startswith("#"):
            continue
        is_heading = is_first and separator is not None and gene.lower() in _HEADINGS
        is_first = False
        if is_heading:
            continue
        if gene in seen:
            msg = f"{path}, line {number}: gene '{gene}' stands in line {seen[gene]} already; list each gene once."
            raise DataError(msg)
        seen[gene] = number
    if not seen:
        msg = f"{path}: no gene in it; data.gene_vocab needs a text file with one gene a line."
        raise DataError(msg)
    return list(seen)
