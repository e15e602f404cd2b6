"""Genes that a user names, as gene sets of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from scmodelforge._errors import ConfigError, listed, nearest
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.screens.plan import GeneSet

__all__ = ["ALL", "Combine", "gene_sets", "named_genes", "require_choice"]

ALL = "all"
Combine = Literal["each", "pairs", "together"]
_LISTED = 20


def require_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if value not in choices:
        msg = f"{setting} is {value!r}; choose one of {', '.join(choices)}.{nearest(str(value), choices)}"
        raise ConfigError(msg)


def named_genes(vocab: GeneVocab, names: Sequence[str]) -> list[int]:
    """Return the number of each gene, which may be named by id, symbol or alias; each once.

    Raises
    ------
    ConfigError
        If the model does not know a gene; all that it does not know are listed.
    """
    found = {name: int(vocab.gene_numbers[token]) for name in names if (token := int(vocab.map([name])[0])) >= 0}
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        genes = [name for pair in zip(vocab.genes, vocab.symbols, strict=True) for name in pair if name]
        near = nearest(unknown[0], genes) if len(unknown) == 1 else ""
        msg = (
            f"perturb.genes: the model's vocabulary does not have {listed(unknown, _LISTED)} "
            f"({len(unknown):,} of {len(names):,} named); leave these out, or use other names of them.{near}"
        )
        raise ConfigError(msg)
    return list(dict.fromkeys(found[name] for name in names))


def gene_sets(vocab: GeneVocab, genes: str | Sequence[str], combine: str, candidates: np.ndarray) -> list[GeneSet]:
    """Return what is perturbed: gene sets, those of one gene first.

    Parameters
    ----------
    vocab
        The model's vocabulary.
    genes
        Names, in one text between commas or one by one; ``all`` stands for ``candidates``.
    combine
        ``each`` takes every gene by itself, ``pairs`` also every two of them together, ``together`` all at once.
    candidates
        Numbers of the genes that can be perturbed.

    Raises
    ------
    ConfigError
        If a gene is unknown, or there are too few or too many for what is asked.
    """
    require_choice("perturb.combine", combine, get_args(Combine))
    names = [name.strip() for name in genes.split(",")] if isinstance(genes, str) else [str(name) for name in genes]
    names = [name for name in names if name]
    if not names:
        msg = "perturb.genes names no gene; give symbols or ids between commas, or 'all'."
        raise ConfigError(msg)
    if names == [ALL]:
        if combine != "each":
            msg = f"perturb.combine is {combine!r} and perturb.genes 'all'; name the genes that go together."
            raise ConfigError(msg)
        return [(int(gene),) for gene in candidates]
    found = named_genes(vocab, names)
    if combine != "each" and len(found) < 2:
        msg = f"perturb.combine is {combine!r}, and perturb.genes names one gene; name at least two."
        raise ConfigError(msg)
    if combine == "together":
        return [tuple(sorted(found))]
    alone: list[GeneSet] = [(gene,) for gene in found]
    return alone if combine == "each" else alone + [tuple(sorted(pair)) for pair in combinations(found, 2)]
