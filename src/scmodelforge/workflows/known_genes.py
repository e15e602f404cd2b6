"""Whether the genes of a file are those of a model."""

from __future__ import annotations

from scmodelforge._errors import DataError
from scmodelforge.data.inspect import describe_gene_ids
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab

__all__ = ["require_known_genes"]


def require_known_genes(vocab: GeneVocab, panel: Panel) -> None:
    """Refuse a file of which a model knows no gene.

    Raises
    ------
    DataError
        If it is so.
    """
    if (vocab.map_panel(panel) >= 0).any():
        return
    msg = (
        f"None of the {len(panel.gene_ids):,} genes of {panel.name} are in the model's vocabulary. They look like "
        f"{describe_gene_ids(panel.gene_ids)}, the model's like {describe_gene_ids(vocab.genes)}; if another "
        "var column has ids of the model's kind, name it with data.gene_id_column."
    )
    raise DataError(msg)
