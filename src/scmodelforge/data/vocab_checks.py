"""What genes and special tokens must be to make a vocabulary, and which genes one can be extended by."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from scmodelforge._errors import DataError
from scmodelforge.data.genes import human_genes, strip_version
from scmodelforge.data.lookup import GeneLookup
from scmodelforge.data.special_tokens import check_special_ids

__all__ = ["check_own", "check_vocab", "genes_to_add"]

_log = logging.getLogger(__name__)


def check_vocab(
    prefix: str,
    genes: Sequence[str],
    symbols: Sequence[str | None],
    special_tokens: Mapping[str, int],
    other_names: Mapping[str, str | None],
) -> None:
    """Refuse what makes no vocabulary; the parameters are those of ``GeneVocab``.

    Parameters
    ----------
    prefix
        Beginning of messages.
    genes, symbols, special_tokens, other_names
        What the vocabulary is to be made of.

    Raises
    ------
    DataError
        If it makes none.
    """
    if not genes:
        msg = f"{prefix} has no gene; give it at least one."
        raise DataError(msg)
    if len(symbols) != len(genes):
        msg = f"{prefix}: {len(symbols):,} symbols for {len(genes):,} genes; give one for each, or none."
        raise DataError(msg)
    refused = {"", *special_tokens}.intersection(genes)
    if refused:
        msg = f"{prefix}: '{min(refused)}' cannot name a gene; take it out of the list."
        raise DataError(msg)
    if len(set(genes)) < len(genes):
        gene, count = Counter(genes).most_common(1)[0]
        msg = f"{prefix}: gene '{gene}' is listed {count} times; list each gene once."
        raise DataError(msg)
    check_special_ids(special_tokens, len(special_tokens) + len(genes), prefix)
    unknown = sorted({gene for gene in other_names.values() if gene is not None}.difference(genes))
    if unknown:
        msg = f"{prefix}: 'other_names' has names of '{unknown[0]}', which is none of its genes; the file is damaged."
        raise DataError(msg)


def check_own(prefix: str, wanted: Collection[str], genes: Sequence[str]) -> None:
    """Refuse to take genes out of a vocabulary that does not have them.

    Raises
    ------
    DataError
        If one of the wanted genes is none of its genes.
    """
    unknown = sorted(set(wanted).difference(genes))
    if unknown:
        msg = f"{prefix} has no gene '{unknown[0]}' ({len(unknown):,} such); restrict it to its own."
        raise DataError(msg)


def genes_to_add(prefix: str, genes: Iterable[str], lookup: GeneLookup) -> list[str]:
    """Return those of some genes that a vocabulary does not have under any name, in their order, each once.

    Parameters
    ----------
    prefix
        Beginning of messages.
    genes
        The genes.
    lookup
        Finds those it has.

    Raises
    ------
    DataError
        If it has all of them, or two of them are one gene.
    """
    given = list(dict.fromkeys(str(gene) for gene in genes))
    tokens = lookup.match(given, ignore_case=False)[0].tolist()
    new = [gene for gene, token in zip(given, tokens, strict=True) if token < 0]
    if not new:
        msg = f"{prefix} has all {len(given):,} genes that are to be added already; give others."
        raise DataError(msg)
    if len(new) < len(given):
        _log.info(f"{prefix} has {len(given) - len(new):,} of the {len(given):,} genes to be added already")
    first_name: dict[str, str] = {}
    for gene in new:
        first = first_name.setdefault(human_genes().ensembl_of.get(gene, strip_version(gene)), gene)
        if first != gene:
            msg = f"{prefix}: '{first}' and '{gene}', which are to be added, are one gene; name it once."
            raise DataError(msg)
    return new
