"""What a user should know of the genes of a collection: some under two names, some twice in a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scmodelforge.data.genes import human_protein_coding, strip_version
from scmodelforge.data.inspect import describe_gene_ids

__all__ = ["warn_of_names", "warn_of_repeats"]

_FILES_NAMED = 3


def warn_of_names(panels: Sequence[Sequence[str]], names: Sequence[str]) -> str | None:
    """Return a line on genes that stand under several names in some panels, or ``None``.

    Ensembl ids with and without version are one gene, and so are an Ensembl id and a symbol that the shipped table of
    human genes has for it.

    Parameters
    ----------
    panels
        Gene ids of each file.
    names
        What each file is called.
    """
    table = human_protein_coding()
    names_of: dict[str, dict[str, None]] = {}
    for gene in dict.fromkeys(gene for panel in panels for gene in panel):
        plain = strip_version(gene)
        names_of.setdefault(table.ensembl_of.get(plain, plain), {})[gene] = None
    twice = [list(found) for found in names_of.values() if len(found) > 1]
    if not twice:
        return None
    kinds: dict[str, str] = {}
    for panel, name in zip(panels, names, strict=True):
        kinds.setdefault(describe_gene_ids(panel), name)
    seen = "; ".join(f"{name} has {kind}" for kind, name in list(kinds.items())[:_FILES_NAMED])
    count = f"{len(twice):,} genes stand" if len(twice) > 1 else "1 gene stands"
    return (
        f"warning: {count} under two or more names in the collection, such as {' and '.join(twice[0])}, each with the "
        f"counts of its own files ({seen}); name with --gene-id-column a var column that has the same kind of ids in "
        "every file."
    )


def warn_of_repeats(panel: Sequence[str], name: str) -> str | None:
    """Return a line on gene ids that a file has more than once, or ``None``.

    Parameters
    ----------
    panel
        Gene ids of the file.
    name
        What the file is called.
    """
    genes, counts = np.unique(np.array(panel, dtype=object), return_counts=True)
    repeated = genes[counts > 1]
    if not len(repeated):
        return None
    count = f"{len(repeated):,} gene ids stand" if len(repeated) > 1 else "1 gene id stands"
    return (
        f"warning: {name}: {count} more than once; the further columns become genes of their own, such as "
        f"{repeated[0]}-1, and nothing is summed. Where they are one gene, sum them in the file, or name unique ids "
        "with --gene-id-column."
    )
