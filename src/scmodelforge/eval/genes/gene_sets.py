"""Labels of genes from tables: sensitive to dosage or not, transcription factor or not, classes of a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.config.section import Section
from scmodelforge.data.draws import mix
from scmodelforge.eval.genes.vectors import GeneVectors, gene_keys

__all__ = ["GeneSetConfig", "LabelledGenes", "labelled_genes", "read_gene_set"]

_GENE = ("gene", "gene_id", "ensembl_id", "ensembl", "gene_name", "symbol")
_LABEL = ("label", "class", "category", "group", "set")
_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


class GeneSetConfig(Section):
    """A table of genes and their labels; in a list of gene sets a plain path stands for one with these defaults."""

    path: str = Field(min_length=1)
    """Table with a gene and its label a row (csv, tsv, txt, parquet, packed with gzip or not)."""
    name: str | None = None
    """Name in the results; ``None`` is the file's."""
    gene_column: str | None = None
    """Column of the gene; ``None`` takes one that is named so."""
    label_column: str | None = None
    """Column of the label; ``None`` takes one that is named so."""

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """Name in the results."""
        return self.name or Path(self.path).name.partition(".")[0]


def read_gene_set(config: GeneSetConfig) -> dict[str, list[str]]:
    """Return the genes of each label.

    Raises
    ------
    ConfigError
        If there is no such file, it is of a kind that is not read, or a column is missing.
    DataError
        If it cannot be read, or has no gene with a label.
    """
    path = Path(config.path)
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix in _SUFFIXES), None)
    if not path.is_file() or kind is None:
        what = "is not read" if path.is_file() else "is not there"
        msg = f"gene set '{config.label}': '{path}' {what}; name a table of genes and labels ({', '.join(_SUFFIXES)})."
        raise ConfigError(msg)
    import pandas as pd

    try:
        if kind == ".parquet":
            from scmodelforge._optional import require

            require("pyarrow", extra="parquet", why="Reading a parquet file")
            table = pd.read_parquet(path).fillna("").astype(str)
        else:
            table = pd.read_csv(path, sep="," if kind == ".csv" else "\t", dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, OSError, ValueError) as problem:
        msg = f"{path}: not readable as a table of genes ({' '.join(str(problem).split())})."
        raise DataError(msg) from problem
    columns = [str(name) for name in table.columns]
    gene = _column(columns, config.label, "gene_column", config.gene_column, _GENE)
    label = _column(columns, config.label, "label_column", config.label_column, _LABEL)
    found: dict[str, list[str]] = {}
    for name, its in zip(table[gene], table[label], strict=True):
        if name and its:
            found.setdefault(its, []).append(name)
    if not found:
        msg = f"gene set '{config.label}': no row of {path} has a gene and a label; both are needed."
        raise DataError(msg)
    return found


def _column(columns: list[str], name: str, setting: str, given: str | None, usual: tuple[str, ...]) -> str:
    by_name = {column.lower(): column for column in reversed(columns)}
    chosen = given if given is not None else next((by_name[each] for each in usual if each in by_name), None)
    if chosen is None or chosen not in columns:
        msg = f"gene set '{name}': no such column; set {setting} to one of {listed(columns, 8)}."
        raise ConfigError(msg)
    return chosen


@dataclass(frozen=True, slots=True)
class LabelledGenes:
    """Genes with vectors and labels, sorted by their names.

    Attributes
    ----------
    name
        Name of the set.
    genes
        Number of each gene among the vectors, shape (n,).
    codes
        Label of each gene, shape (n,), numbers of ``labels``.
    labels
        Names of the labels, sorted.
    facts
        What was found of the table, and what dropped.
    """

    name: str
    genes: np.ndarray
    codes: np.ndarray
    labels: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def labelled_genes(
    name: str,
    given: dict[str, list[str]],
    vectors: GeneVectors,
    *,
    min_genes: int,
    max_genes: int,
    seed: int,
    others: str | None = None,
) -> LabelledGenes:
    """Find labelled genes among those with vectors.

    Parameters
    ----------
    name
        Name of the set.
    given
        Genes of each label. Genes of several labels are left out.
    vectors
        The genes with vectors.
    min_genes, max_genes
        Labels with fewer genes are left out; of those with more so many are drawn.
    seed
        Seed of the draw, which depends on the genes' names and on nothing else.
    others
        Label of all genes that have none; ``None`` leaves them out.
    """
    labels_of: dict[int, set[str]] = {}
    num_unknown = 0
    for label, genes in given.items():
        for number in vectors.find(genes).tolist():
            num_unknown += number < 0
            if number >= 0:
                labels_of.setdefault(number, set()).add(label)
    facts: dict[str, Any] = {
        "genes_without_vector": num_unknown,
        "genes_of_several_labels": sum(len(labels) > 1 for labels in labels_of.values()),
    }
    one = {number: next(iter(labels)) for number, labels in labels_of.items() if len(labels) == 1}
    if others is not None:
        one |= {number: others for number in range(len(vectors)) if number not in labels_of}
    draws = mix(seed, "labelled genes", name, gene_keys(vectors.names))
    sizes: dict[str, int] = {}
    kept: list[int] = []
    for label in sorted({*given, *one.values()}):
        members = sorted((number for number in one if one[number] == label), key=lambda number: draws[number])
        sizes[label] = len(members)
        kept += members[:max_genes] if len(members) >= min_genes else []
    kept = sorted(kept, key=lambda number: vectors.names[number])
    labels = tuple(sorted({one[number] for number in kept}))
    facts |= {"genes_of_label": sizes, "labels_left_out": [each for each in sizes if each not in labels]}
    codes = np.array([labels.index(one[number]) for number in kept], dtype=np.int64)
    return LabelledGenes(name, np.array(kept, dtype=np.int64), codes, labels, facts)
