"""Other names of human genes: aliases and previous symbols, as NCBI Gene lists them.

Only names that stand for one gene alone are here, and none that is some gene's own symbol: a proper name always goes
before an alias, and an ambiguous one finds nothing. Source and licence stand in ``files/NOTICE.md``.
"""

from __future__ import annotations

from functools import cache

from scmodelforge.data.genes import human_genes, read_shipped

__all__ = ["gene_of_alias"]


@cache
def gene_of_alias() -> dict[str, str]:
    """Return the Ensembl id of the gene that each other name stands for."""
    ensembl_of = human_genes().ensembl_of
    return {
        alias: ensembl_of[symbol]
        for symbol, names in read_shipped("human_aliases.tsv.gz")
        for alias in names.split("|")
    }
