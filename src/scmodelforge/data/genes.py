"""Human genes as shipped with the package, and the spelling of gene ids.

The sources and licences of the tables stand in ``files/NOTICE.md``; ``tools/make_gene_table.py`` and
``tools/make_name_tables.py`` made them. A table is read when it is first asked for.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = [
    "GeneTable",
    "human_genes",
    "human_protein_coding",
    "is_human_ensembl",
    "is_mostly_human",
    "read_shipped",
    "split_named",
    "strip_version",
]

_VERSIONED = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?")
_HUMAN = re.compile(r"ENSG\d{11}")
_NAMED = re.compile(r"(.+)_(ENS[A-Z]*G\d{11})(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class GeneTable:
    """Genes with their names, one entry of each tuple a gene, sorted by Ensembl id.

    Attributes
    ----------
    ensembl
        Ensembl gene ids without version, each once.
    symbols
        Symbols, each once.
    other_symbol_of
        The second symbol, by Ensembl id, of genes that two authorities name differently.
    ensembl_of
        Ensembl id of each symbol, second symbols included.
    symbol_of
        Symbol of each Ensembl id.
    """

    ensembl: tuple[str, ...]
    symbols: tuple[str, ...]
    other_symbol_of: dict[str, str]
    ensembl_of: dict[str, str]
    symbol_of: dict[str, str]


@cache
def human_protein_coding() -> GeneTable:
    """Return the shipped table of human protein-coding genes (NCBI Gene 2022 and GENCODE v44)."""
    rows = read_shipped("human_protein_coding.tsv.gz")
    ensembl, symbols, others = zip(*rows, strict=True)
    other_symbol_of = {gene: other for gene, other in zip(ensembl, others, strict=True) if other}
    ensembl_of = {other: gene for gene, other in other_symbol_of.items()}
    ensembl_of.update(zip(symbols, ensembl, strict=True))
    return GeneTable(
        ensembl=ensembl,
        symbols=symbols,
        other_symbol_of=other_symbol_of,
        ensembl_of=ensembl_of,
        symbol_of=dict(zip(ensembl, symbols, strict=True)),
    )


@cache
def human_genes() -> GeneTable:
    """Return all human genes that ship with the package: the protein-coding ones and others of GENCODE v44."""
    coding = human_protein_coding()
    others = dict(row for row in read_shipped("human_other_genes.tsv.gz"))
    symbol_of = dict(sorted((coding.symbol_of | others).items()))
    return GeneTable(
        ensembl=tuple(symbol_of),
        symbols=tuple(symbol_of.values()),
        other_symbol_of=coding.other_symbol_of,
        ensembl_of=coding.ensembl_of | {symbol: gene for gene, symbol in others.items()},
        symbol_of=symbol_of,
    )


def is_mostly_human(names: Collection[str]) -> bool:
    """Tell whether at least half of some gene names are ids or proper symbols of human genes."""
    table = human_genes()
    known = sum(name in table.ensembl_of or strip_version(name) in table.symbol_of for name in names)
    return 2 * known >= max(1, len(names))


def read_shipped(name: str) -> list[list[str]]:
    """Return the rows of a table that ships with the package, without its heading."""
    packed = files("scmodelforge.data").joinpath("files", name).read_bytes()
    return [line.split("\t") for line in gzip.decompress(packed).decode("ascii").splitlines()[1:]]


def strip_version(gene: str) -> str:
    """Return an Ensembl gene id without its version (``ENSG00000121410.12``); anything else unchanged.

    The suffix ``_PAR_Y`` of the Y copies of pseudoautosomal genes goes too: both copies are one gene.
    """
    if not gene.startswith("ENS"):
        return gene
    if "." not in gene and "_" not in gene:
        return gene  # most are such, and there are many
    match = _VERSIONED.fullmatch(gene)
    return match.group(1) if match else gene


def is_human_ensembl(gene: str) -> bool:
    """Tell whether this is a human Ensembl gene id without version."""
    return gene.startswith("ENSG") and _HUMAN.fullmatch(gene) is not None


def split_named(gene: str) -> tuple[str, str] | None:
    """Return symbol and Ensembl id of a gene named after both (``TBCE_ENSG00000284770``), or ``None``.

    Data sets name genes so that share a symbol with another one.
    """
    match = _NAMED.fullmatch(gene) if "_ENS" in gene else None
    return None if match is None else (match.group(1), match.group(2))
