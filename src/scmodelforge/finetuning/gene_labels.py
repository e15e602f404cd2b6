"""Classes of genes from a file, and which genes are learned from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.data.vocab import GeneVocab

__all__ = ["fold_genes", "genes_of_vocab", "read_gene_labels", "split_genes", "split_named_genes", "without_header"]

_log = logging.getLogger(__name__)


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


def without_header(labels: Mapping[str, str], vocab: GeneVocab, *, path: str | Path) -> dict[str, str]:
    """Return the classes without the first line if that is a header, and say so.

    A header is a first line whose gene the vocabulary does not have and whose class no other line has. If it is none,
    nothing is lost: such a gene cannot be learned from.

    Parameters
    ----------
    labels
        As of :func:`read_gene_labels`.
    vocab
        The genes that are known.
    path
        The file, for messages.
    """
    first = next(iter(labels))
    is_alone = list(labels.values()).count(labels[first]) == 1
    if not is_alone or int(vocab.map([first])[0]) >= 0:
        return dict(labels)
    _log.warning(
        f"{path}: the first line ('{first}', '{labels[first]}') is passed over as a header: the model has no such "
        "gene, and no other gene has this class"
    )
    return {gene: name for gene, name in labels.items() if gene != first}


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


def split_named_genes(
    labels: Mapping[str, str], names: Sequence[str], vocab: GeneVocab
) -> tuple[dict[str, str], dict[str, str]]:
    """Hold out genes by name.

    Parameters
    ----------
    labels
        The class of each gene, by the vocabulary's name for it.
    names
        Genes, by any name that the vocabulary knows.
    vocab
        The genes.

    Returns
    -------
    As of :func:`split_genes`.

    Raises
    ------
    ConfigError
        If a name is of no gene with a class, or genes of fewer than two classes are left to learn from.
    """
    tokens = vocab.map(names)
    own = [vocab.genes[int(vocab.gene_numbers[token])] if token >= 0 else "" for token in tokens]
    wrong = [name for name, gene in zip(names, own, strict=True) if gene not in labels]
    if wrong or not names:
        what = f"names {listed(wrong, 5)}, of which" if wrong else "is empty, of which"
        msg = (
            f"finetune.held_out_genes {what} a class is not known: genes are needed that finetune.gene_labels, the "
            "model and the data have; name such, or a share."
        )
        raise ConfigError(msg)
    held_out = {gene: labels[gene] for gene in own}
    train = {gene: name for gene, name in labels.items() if gene not in held_out}
    if len(set(train.values())) < 2:
        msg = (
            f"finetune.held_out_genes leaves genes of {len(set(train.values()))} class(es) to learn from; two or more "
            "are needed: hold out fewer genes."
        )
        raise ConfigError(msg)
    return train, held_out


def fold_genes(labels: Mapping[str, str], *, folds: int, seed: int) -> list[list[str]]:
    """Divide genes into folds, each with about the same share of each class; a class's only gene is in none.

    Parameters
    ----------
    labels
        The class of each gene.
    folds
        Number of folds.
    seed
        Seed of the choice.

    Raises
    ------
    DataError
        As of :func:`split_genes`, or if there are fewer genes than folds.
    """
    split_genes(labels, held_out=0.5, seed=seed)
    rng = np.random.default_rng(seed)
    parts: list[list[str]] = [[] for _ in range(folds)]
    place = 0  # goes on from class to class, so that folds have as many genes
    for name in sorted(set(labels.values())):
        genes = sorted(gene for gene, own in labels.items() if own == name)
        for number in rng.permutation(len(genes)) if len(genes) > 1 else []:
            parts[place % folds].append(genes[number])
            place += 1
    if not all(parts):
        msg = f"--folds {folds} is more than the {place} genes that can be held out; ask for fewer."
        raise DataError(msg)
    return [sorted(part) for part in parts]
