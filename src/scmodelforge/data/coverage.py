"""How well a vocabulary fits the genes of a file, in figures and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmodelforge.data.types import Panel

if TYPE_CHECKING:
    from scmodelforge.data.vocab import GeneVocab

__all__ = ["Coverage", "measure", "no_overlap", "repeated_ids"]

#: Below this share of the genes that could match at all, a match is suspicious.
LOW_SHARE = 0.1

_MAP_FIRST = (
    "give the file a var column with the ids of their orthologs in the vocabulary's species, and set "
    "data.gene_id_column to it."
)
_ID_TYPES = {
    "ensembl_human": "human Ensembl ids",
    "ensembl_mouse": "mouse Ensembl ids",
    "symbol": "gene symbols",
    "mixed": "a mixture of Ensembl ids and symbols",
    "unknown": "neither Ensembl ids nor gene symbols",
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many genes of a file a vocabulary has.

    Attributes
    ----------
    known
        Genes of the file with a token.
    total
        Genes of the file.
    by_case
        Genes with a token that were found only when letter case was ignored.
    id_type
        What the file's gene ids look like, as :func:`scmodelforge.data.inspect.gene_id_type` says.
    warning
        One line on a suspiciously poor match, else ``None``.
    repeats
        Genes of the file whose token another gene of the file before them has: what is read of them is summed.
    """

    known: int
    total: int
    by_case: int
    id_type: str
    warning: str | None = None
    repeats: int = 0


def measure(
    panel: Panel, tokens: np.ndarray, by_case: int, *, vocab_name: str, num_genes: int, is_fixed: bool = False
) -> Coverage:
    """Return the coverage of a file whose genes have these tokens in a vocabulary of ``num_genes`` genes."""
    from scmodelforge.data.inspect import gene_id_type

    known, total = int(np.count_nonzero(tokens >= 0)), len(tokens)
    where = _named(vocab_name, is_fixed=is_fixed)
    warning = None
    if known < LOW_SHARE * min(total, num_genes):
        warning = (
            f"Only {known:,} of the {total:,} genes of {panel.name} are in {where} ({num_genes:,} genes); "
            f"check {'' if is_fixed else 'data.gene_vocab and '}data.gene_id_column."
        )
    elif by_case > known / 2:
        warning = (
            f"{by_case:,} of the {known:,} genes of {panel.name} that are in {where} match it only "
            "when letter case is ignored; if they are another species' genes, "
            + (_MAP_FIRST if is_fixed else "set data.orthologs to that species, or data.gene_vocab to from_data.")
        )
    repeats = known - len(np.unique(tokens[tokens >= 0]))
    return Coverage(known, total, by_case, gene_id_type(panel.gene_ids), warning, repeats)


def no_overlap(panel: Panel, coverage: Coverage, vocab: GeneVocab) -> str:
    """Return the message for a file without any gene of a vocabulary."""
    from scmodelforge.data.inspect import gene_id_type

    if not coverage.total:
        return f"{panel.name} has no genes; at least one is needed."
    example = f" ({panel.gene_ids[0]}, ...)" if coverage.total else ""
    own = gene_id_type(np.array(vocab.genes, dtype=object))
    is_of_other_species = coverage.id_type == "ensembl_mouse" and own != "ensembl_mouse"
    remedy = "set data.gene_id_column to the var column that has such ids, or data.gene_vocab to from_data."
    if vocab.is_fixed:
        remedy = "set data.gene_id_column to the var column that has such ids."
        remedy = _MAP_FIRST if is_of_other_species else remedy
    elif is_of_other_species and vocab.other_names:
        remedy = (
            "data.orthologs gives none of them a token: set data.orthologs.policy to one_to_one or one_to_many, or "
            "leave the file out."
        )
    elif is_of_other_species:
        remedy = "set data.orthologs.species to mouse to use their human orthologs, or data.gene_vocab to from_data."
    return (
        f"None of the {coverage.total:,} genes of {panel.name} are in {_named(vocab.name, is_fixed=vocab.is_fixed)}. "
        f"Its gene ids look like {_ID_TYPES[coverage.id_type]}{example} while the vocabulary has {_ID_TYPES[own]} "
        f"({vocab.genes[0]}, ...); {remedy}"
    )


def _named(vocab_name: str, *, is_fixed: bool) -> str:
    return "the model's vocabulary" if is_fixed else f"gene_vocab '{vocab_name}'"


def repeated_ids(panel: Panel) -> str | None:
    """Return one line on gene ids that a file has more than once, or ``None``."""
    ids, counts = np.unique(panel.gene_ids.astype(str), return_counts=True)
    repeated = ids[counts > 1]
    if not len(repeated):
        return None
    return (
        f"{len(repeated):,} gene ids of {panel.name} stand for several columns ({repeated[0]}, ...), whose counts are "
        "summed; if they are different genes, set data.gene_id_column to a var column with ids of their own."
    )
