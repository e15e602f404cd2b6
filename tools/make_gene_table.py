"""Make the table of human protein-coding genes that ships with the package.

Run from the repository root, with pandas::

    python tools/make_gene_table.py --ncbi NCBI.tsv.gz --gencode GENCODE.tsv.gz \
        --out src/scmodelforge/data/files/human_protein_coding.tsv.gz

``NCBI.tsv.gz`` has the columns ``ensembl`` and ``symbol``, one line for each pair: the protein-coding genes of
Bioconductor's org.Hs.eg.db. ``GENCODE.tsv.gz`` has the same columns: all genes of GENCODE v44, without versions.
Where they come from and under which licences stands in ``src/scmodelforge/data/files/NOTICE.md``.

One line of the result is one gene: its Ensembl id, its symbol and, where NCBI and GENCODE differ, NCBI's symbol.

* Of several Ensembl ids of a gene (alternative haplotypes), the one GENCODE gives the same name is taken, else one
  that GENCODE knows at all, else the lowest.
* An id that GENCODE names after another gene of the list belongs to that gene (readthroughs, unplaced copies).
* GENCODE's name is the symbol, unless it has none: it is what most files of today carry (``MT-ND1``, not ``ND1``).

The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import logging
from pathlib import Path

import pandas as pd


def main() -> None:
    """Read both sources, write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--ncbi", "--gencode", "--out"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    rows = gene_rows(read_pairs(options.ncbi), read_pairs(options.gencode))
    text = "ensembl\tsymbol\tncbi_symbol\n" + "".join("\t".join(row) + "\n" for row in rows)
    options.out.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))
    other = sum(bool(row[2]) for row in rows)
    logging.info(f"{len(rows):,} genes, {other:,} with another symbol at NCBI, {options.out.stat().st_size:,} bytes")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of Ensembl id and symbol, without those that lack an id."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, usecols=["ensembl", "symbol"])
    return sorted({(row.ensembl, row.symbol) for row in table.itertuples() if row.ensembl})


def gene_rows(ncbi: list[tuple[str, str]], gencode: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return Ensembl id, symbol and NCBI's symbol (empty if the same) of each gene, sorted by id."""
    names = {ensembl: symbol for ensembl, symbol in gencode if not symbol.startswith("ENSG")}
    known = {ensembl for ensembl, _ in gencode}
    symbols = {symbol for _, symbol in ncbi}
    candidates: dict[str, list[str]] = {}
    for ensembl, symbol in ncbi:
        name = names.get(ensembl, symbol)
        if name == symbol or name not in symbols:
            candidates.setdefault(symbol, []).append(ensembl)
    chosen: dict[str, str] = {}
    for symbol, ids in sorted(candidates.items(), key=lambda item: (item[0].startswith("LOC"), item[0])):
        best = min(ids, key=lambda e: (names.get(e) != symbol, e not in known, e))
        chosen.setdefault(best, symbol)  # two symbols of one id: a real name goes before a LOC number
    taken = [names.get(ensembl, symbol) for ensembl, symbol in chosen.items()]
    rows = []
    for ensembl, symbol in sorted(chosen.items()):
        name = names.get(ensembl, symbol)
        if name != symbol and taken.count(name) > 1:
            name = symbol  # GENCODE gives several genes this name
        rows.append((ensembl, name, "" if name == symbol else symbol))
    return rows


if __name__ == "__main__":
    main()
