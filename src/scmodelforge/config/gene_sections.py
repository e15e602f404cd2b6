"""Settings of which genes make a vocabulary: ``data.orthologs`` and ``data.gene_vocab_panels``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from scmodelforge.config.faults import Faults
from scmodelforge.config.section import Section

if TYPE_CHECKING:
    from scmodelforge.config.schema import DataConfig

__all__ = ["OrthologsConfig", "check_gene_vocab"]


class OrthologsConfig(Section):
    """Genes of other species as tokens of their human orthologs, in one vocabulary."""

    species: str | list[str] = Field("mouse", min_length=1)
    """``mouse``, a TSV file with the columns ``human`` and ``gene`` (and perhaps ``symbol``, ``human_symbol``,
    ``confidence``), or a list of these."""
    policy: Literal["one_to_one", "one_to_many", "drop"] = "one_to_one"
    """``one_to_one`` reads pairs of genes without a further ortholog, ``one_to_many`` all (counts of several genes of
    one ortholog are summed, a gene of several has that of highest confidence), ``drop`` gives these genes no token."""

    def all_species(self) -> list[str]:
        """Return the species and files as a list."""
        return [self.species] if isinstance(self.species, str) else list(self.species)


def check_gene_vocab(data: DataConfig, faults: Faults) -> None:
    """Refuse a choice among the genes of files where the vocabulary is not made of them.

    Parameters
    ----------
    data
        The settings.
    faults
        Gets a line if so.
    """
    if data.gene_vocab_panels != "union" and data.gene_vocab != "from_data":
        faults.add(
            "data.gene_vocab_panels",
            f"data.gene_vocab_panels is {data.gene_vocab_panels!r}, but data.gene_vocab is not 'from_data', so the "
            "files do not decide on the genes; set data.gene_vocab to from_data or leave data.gene_vocab_panels out.",
        )
