"""Names of conditions: one perturbation has one name, however a file spells it.

``B+A``, ``A+B`` and ``A+B+ctrl`` are one combination, ``A``, ``A+ctrl`` and ``ENSG00000120656`` may be one gene, and
``ctrl``, ``NT`` or ``non-targeting_3`` are the control where the file says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.data.genes import human_genes, split_named, strip_version
from scmodelforge.data.perturbation.columns import PerturbationColumns, find_perturbation_columns, targets_of

__all__ = ["CONTROL", "Conditions", "Group", "gene_key"]

CONTROL = "control"
"""Name of the control, whatever a file calls it."""


class Group(NamedTuple):
    """What is scored as one: the cells of a perturbation in one cell line (or other covariate).

    Attributes
    ----------
    covariate
        Values of the covariate columns, joined by ``|``; empty if there are none.
    perturbation
        Name as :class:`Conditions` gives it.
    """

    covariate: str
    perturbation: str

    @property
    def label(self) -> str:
        """Name in tables."""
        return f"{self.covariate}|{self.perturbation}" if self.covariate else self.perturbation

    @property
    def targets(self) -> tuple[str, ...]:
        """Genes that are perturbed, none of them for the control."""
        return () if self.perturbation == CONTROL else tuple(self.perturbation.split("+"))

    @property
    def control(self) -> Group:
        """The control of the same covariate."""
        return Group(self.covariate, CONTROL)


@dataclass(frozen=True)
class Conditions:
    """Reads the names of conditions that a data set uses.

    Attributes
    ----------
    control
        Value of the column that means control.
    columns
        How combinations and controls are spelt.
    """

    control: str
    columns: PerturbationColumns

    @classmethod
    def of(cls, values: Iterable[str], *, control: str) -> Conditions:
        """Learn how a column spells combinations.

        Parameters
        ----------
        values
            Values of the column.
        control
            The one that means control. Values that name a control by themselves (``NT``, ``non-targeting_2``) are
            read as controls too where they stand in a combination (``A+NT``), and nowhere else.

        Raises
        ------
        ConfigError
            If ``control`` is none of the values.
        """
        import pandas as pd

        known = sorted(set(values))
        if control not in known:
            msg = (
                f"no cell has the condition '{control}' (--control).{nearest(control, known)} "
                f"There are: {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}."
            )
            raise ConfigError(msg)
        found = find_perturbation_columns(pd.DataFrame({"perturbation": known}))
        base = found or PerturbationColumns("perturbation")
        return cls(control, replace(base, control=control))

    @cached_property
    def _names(self) -> dict[str, str]:
        return {}

    def name(self, condition: str) -> str:
        """Return the one name of a condition: :data:`CONTROL`, or the genes in alphabetical order joined by ``+``."""
        if condition not in self._names:
            self._names[condition] = self._read(condition)
        return self._names[condition]

    def names(self, conditions: Sequence[str]) -> list[str]:
        """Return the name of each condition."""
        return [self.name(each) for each in conditions]

    def _read(self, condition: str) -> str:
        if condition == self.control:
            return CONTROL
        targets = targets_of(condition, self.columns)
        # A value that is a control by its name alone, such as a second pool of guides, stays a condition of its own.
        return "+".join(sorted({gene_key(each) for each in targets})) or condition.strip()


def gene_key(gene: str) -> str:
    """Return the present symbol of a human gene given by Ensembl id or an older symbol; other names unchanged."""
    table = human_genes()
    named = split_named(gene)
    ensembl = named[1] if named else strip_version(gene)
    ensembl = table.ensembl_of.get(gene, ensembl)
    return table.symbol_of.get(ensembl, gene)
