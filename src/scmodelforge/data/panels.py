"""The genes that files have between them, each under one name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scmodelforge._errors import DataError
from scmodelforge.data.aliases import gene_of_alias
from scmodelforge.data.genes import human_genes, is_human_ensembl, is_mostly_human, split_named, strip_version
from scmodelforge.data.types import Panel

__all__ = ["genes_of_panels"]


def genes_of_panels(
    panels: Sequence[Panel],
    *,
    min_files: int = 1,
    human_of: Mapping[str, tuple[str, ...]] | None = None,
    drops_others: bool = False,
) -> list[str]:
    """Return the genes of some files, sorted.

    Versions of Ensembl ids are dropped. Where a file has human Ensembl ids, human symbols become Ensembl ids as far as
    the shipped tables know them, and otherwise older symbols become those of today. An alias of a human gene stands
    for the gene unless its file has the gene by another name too, and only where most genes of the file are human.

    Parameters
    ----------
    panels
        The genes of each file.
    min_files
        Leave out genes that fewer files have.
    human_of
        Id and symbol of the human gene that names of other species' genes stand for, ``()`` for none.
    drops_others
        Leave out genes of other species; without it those that stand for no human gene keep their own name.

    Raises
    ------
    DataError
        If no gene is left.
    """
    human_of = human_of or {}
    names = [{strip_version(str(gene)) for gene in panel.gene_ids} - {""} for panel in panels]
    has_ids = any(
        is_human_ensembl(gene) or (gene in human_of and gene.startswith("ENS")) for each in names for gene in each
    )
    spelling = _Spelling(uses_ids=has_ids, human_of=human_of, drops_others=drops_others)
    counts = Counter(gene for each in names for gene in spelling.genes(each))
    genes = sorted(gene for gene, count in counts.items() if count >= min_files)
    if not genes and counts:
        most = max(counts.values())
        msg = (
            f"data.gene_vocab_panels: no gene is in {min_files} of the {len(panels)} files, the most shared one is in "
            f"{most}; give a smaller number or 'union', or leave out the files with other genes."
        )
        raise DataError(msg)
    return genes


@dataclass(frozen=True, slots=True)
class _Spelling:
    """What the genes of files are called in a vocabulary."""

    uses_ids: bool
    human_of: Mapping[str, tuple[str, ...]]
    drops_others: bool

    def genes(self, names: set[str]) -> set[str]:
        """Return the genes of one file."""
        is_human = is_mostly_human(names) or any(is_human_ensembl(name) for name in names)
        found: set[str] = set()
        aliases: dict[str, list[str]] = {}
        for name in names:
            gene = gene_of_alias().get(name) if is_human and name not in self.human_of else None
            if gene is not None:
                aliases.setdefault(self._human(gene), []).append(name)
            elif name in self.human_of:
                found.update(self._of_other_species(name))
            else:
                found.add(self._proper(name, is_human=is_human))
        for gene, several in aliases.items():
            found.update(several if gene in found or len(several) > 1 else [gene])
        return found

    def _proper(self, name: str, *, is_human: bool) -> str:
        table = human_genes()
        named = split_named(name)
        if named is not None:
            return named[1] if self.uses_ids else name
        gene = table.ensembl_of.get(name)
        if gene is None or not (self.uses_ids or is_human):
            return name
        return self._human(gene)

    def _human(self, gene: str) -> str:
        return gene if self.uses_ids else human_genes().symbol_of.get(gene, gene)

    def _of_other_species(self, name: str) -> set[str]:
        human = self.human_of[name]
        if human:
            return {human[0] if self.uses_ids else human[-1]}
        return set() if self.drops_others else {name}
