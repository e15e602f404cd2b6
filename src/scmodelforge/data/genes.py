"""Human protein-coding genes as shipped with the package, and the spelling of gene ids.

The sources and licences of the table stand in ``files/NOTICE.md``; ``tools/make_gene_table.py`` made it.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["GeneTable", "human_protein_coding", "is_human_ensembl", "strip_version"]

_VERSIONED = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?")
_HUMAN = re.compile(r"ENSG\d{11}")


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
    packed = files("scmodelforge.data").joinpath("files", "human_protein_coding.tsv.gz").read_bytes()
    rows = [line.split("\t") for line in gzip.decompress(packed).decode("ascii").splitlines()[1:]]
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


def strip_version(gene: str) -> str:
    """Return an Ensembl gene id without its version (``ENSG00000121410.12``); anything else unchanged.

    The suffix ``_PAR_Y`` of the Y copies of pseudoautosomal genes goes too: both copies are one gene.
    """
    if not gene.startswith("ENS"):
        return gene
    match = _VERSIONED.fullmatch(gene)
    return match.group(1) if match else gene


def is_human_ensembl(gene: str) -> bool:
    """Tell whether this is a human Ensembl gene id without version."""
    return gene.startswith("ENSG") and _HUMAN.fullmatch(gene) is not None
