"""Classes of genes from a file, and which genes are learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.vocab import GeneVocab

__all__ = ["genes_of_vocab", "read_gene_labels", "split_genes"]


def read_gene_labels(path: str | Path) -> dict[str, str]:
    """Read the class of each gene.

    Parameters
    ----------
    path
        A line for each gene: its symbol or Ensembl id, a tab, its class. Lines that are empty or begin with ``#`` are
        passed over.

    Raises
    ------
    DataError
        If the file cannot be read, a line has another form, a gene has two classes, or there are fewer than two.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        msg = f"finetune.gene_labels: {path} cannot be read ({' '.join(str(problem).split())}); name a text file."
        raise DataError(msg) from problem
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        gene, name = (part.strip() for part in line.partition("\t")[::2])
        if not (gene and name):
            msg = f"{path}, line {number}: '{line.strip()}' is not a gene, a tab and its class; write it so."
            raise DataError(msg)
        if found.setdefault(gene, name) != name:
            msg = f"{path}, line {number}: gene '{gene}' is '{name}' here and '{found[gene]}' before; keep one of them."
            raise DataError(msg)
    if len(set(found.values())) < 2:
        msg = (
            f"{path} has {len(set(found.values()))} class(es) of genes (finetune.gene_labels); two or more are needed."
        )
        raise DataError(msg)
    return found


def genes_of_vocab(labels: Mapping[str, str], vocab: GeneVocab) -> tuple[dict[str, str], list[str]]:
    """Return the class of each gene that a vocabulary has, by its own name for it, and the other genes.

    Raises
    ------
    DataError
        If one gene has two classes under two names.
    """
    tokens = vocab.map(labels)
    found: dict[str, str] = {}
    others = []
    for (gene, name), token in zip(labels.items(), tokens, strict=True):
        if token < 0:
            others.append(gene)
            continue
        own = vocab.genes[int(vocab.gene_numbers[token])]
        if found.setdefault(own, name) != name:
            msg = f"finetune.gene_labels: '{gene}' is gene {own}, which is '{found[own]}' under another name; keep one."
            raise DataError(msg)
    return found, others


def split_genes(labels: Mapping[str, str], *, held_out: float, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Hold out a share of the genes of each class, at least one of two, but no class's only one.

    Parameters
    ----------
    labels
        The class of each gene.
    held_out
        The share.
    seed
        Seed of the choice, which does not depend on the order of the genes.

    Returns
    -------
    Classes of the genes that are learned from, and of those that are held out.

    Raises
    ------
    DataError
        If fewer than two classes have two genes.
    """
    sizes = Counter(labels.values())
    if sum(size >= 2 for size in sizes.values()) < 2:
        seen = ", ".join(f"{name} {size}" for name, size in sorted(sizes.items())) or "none"
        msg = (
            f"of the genes of finetune.gene_labels that the model and the data have, by class: {seen}; two classes "
            "with two genes each are needed, one to learn from and one to score."
        )
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name in sorted(sizes):
        genes = sorted(gene for gene, own in labels.items() if own == name)
        number = min(max(1, round(held_out * len(genes))), len(genes) - 1)
        chosen |= {genes[place] for place in rng.permutation(len(genes))[:number]}
    train = {gene: name for gene, name in labels.items() if gene not in chosen}
    return train, {gene: name for gene, name in labels.items() if gene in chosen}
