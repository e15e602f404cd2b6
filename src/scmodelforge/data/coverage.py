"""How well a vocabulary fits the genes of a file, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data.types import Panel

__all__ = ["Coverage", "measure", "no_overlap"]

#: Below this share of the genes that could match at all, a match is suspicious.
LOW_SHARE = 0.1

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


def measure(panel: Panel, tokens: np.ndarray, by_case: int, *, vocab_name: str, num_genes: int) -> Coverage:
    """Return the coverage of a file whose genes have these tokens in a vocabulary of ``num_genes`` genes."""
    from scmodelforge.data.inspect import gene_id_type

    known, total = int(np.count_nonzero(tokens >= 0)), len(tokens)
    warning = None
    if known < LOW_SHARE * min(total, num_genes):
        warning = (
            f"Only {known:,} of the {total:,} genes of {panel.name} are in gene_vocab '{vocab_name}' "
            f"({num_genes:,} genes); check data.gene_vocab and data.gene_id_column."
        )
    elif by_case > known / 2:
        warning = (
            f"{by_case:,} of the {known:,} genes of {panel.name} that are in gene_vocab '{vocab_name}' match it only "
            "when letter case is ignored; if they are another species' genes, set data.gene_vocab to from_data."
        )
    repeats = known - len(np.unique(tokens[tokens >= 0]))
    return Coverage(known, total, by_case, gene_id_type(panel.gene_ids), warning, repeats)


def no_overlap(panel: Panel, coverage: Coverage, *, vocab_name: str, genes: Sequence[str]) -> str:
    """Return the message for a file without any gene of the vocabulary's ``genes``."""
    from scmodelforge.data.inspect import gene_id_type

    example = f" ({panel.gene_ids[0]}, ...)" if coverage.total else ""
    own = _ID_TYPES[gene_id_type(np.array(genes, dtype=object))]
    return (
        f"None of the {coverage.total:,} genes of {panel.name} are in gene_vocab '{vocab_name}'. "
        f"Its gene ids look like {_ID_TYPES[coverage.id_type]}{example} while the vocabulary has {own} "
        f"({genes[0]}, ...); set data.gene_id_column to the var column that has such ids, "
        "or data.gene_vocab to from_data."
    )
