"""Which obs columns say what was done to a cell, and which values mean that nothing was.

Names are those in use by pertpy and its data sets, scPerturb (Peidli et al. 2024, doi:10.1038/s41592-023-02144-y),
GEARS (Roohani et al. 2024, doi:10.1038/s41587-023-01905-6) and Cell Ranger. Letter case, spaces and punctuation do not
count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from scmodelforge.data.protocols import CellSource

__all__ = ["PerturbationColumns", "columns_of_source", "find_perturbation_columns", "is_control", "targets_of"]

#: Columns that name perturbations, whatever their values.
_PERTURBATION = (
    "gene_target", "target_gene", "perturbation", "perturbation_name", "perturbed_gene", "gene_perturbed",
    "knockout", "perturb", "pert",
)  # fmt: skip
#: Columns that do so only if one of their values is a control.
_PERHAPS = ("condition", "target", "gene", "treatment", "drug", "compound", "stimulation", "product_name")
_GUIDE = (
    "guide", "guide_id", "guide_ids", "guide_identity", "guide_rna", "guide_name", "assigned_guide", "grna", "grna_id",
    "sgrna", "sgrna_id", "sgid", "feature_call",
)  # fmt: skip
_NUM_GUIDES = ("num_guides", "n_guides", "nperts", "num_features", "number_of_guides")
_CONTROLS = frozenset({
    "control", "ctrl", "ctl", "nt", "ntc", "nontargeting", "nontarget", "nontargetingcontrol", "safetargeting",
    "scramble", "scrambled", "negctrl", "negativecontrol", "negcontrol", "unperturbed", "untreated", "unstimulated",
    "vehicle", "dmso", "mock", "sgnt", "sgntc", "sgnontargeting", "sgcontrol", "sgctrl",
})  # fmt: skip
#: The number of a control's guide: NT-1, NTg3, non-targeting_00012.
_NUMBER = re.compile(r"[\W_]*\d+$")
_GUIDE_SIGN = re.compile(r"[\W_]*s?g$", re.IGNORECASE)
_SEPARATORS = ("+", "|", ";", "&", ",", "__", "_")


@dataclass(frozen=True)
class PerturbationColumns:
    """Where a data set says what was done to its cells.

    Attributes
    ----------
    perturbation
        The obs column that names the perturbation of each cell.
    control
        Its value for cells to which nothing was done, ``None`` if there is none. Of several, the one without a number.
    separator
        What stands between the targets of a combination in it; ``None`` if there is no combination.
    guide
        The obs column with the guides of each cell, if there is one.
    num_guides
        The obs column with their number, if there is one.
    """

    perturbation: str
    control: str | None = None
    separator: str | None = None
    guide: str | None = None
    num_guides: str | None = None


def find_perturbation_columns(obs: Any) -> PerturbationColumns | None:
    """Find out which columns of an obs table describe perturbations.

    A column with a telling name (``gene_target``, ``perturbation``, ...) counts; one with a general name
    (``condition``, ``treatment``, ...) if one of its values is a control. One with a control comes first, and one that
    tells perturbations apart before one that only says whether there was any.

    Parameters
    ----------
    obs
        A data frame with a row for each cell.

    Returns
    -------
    The columns, or ``None`` if none names perturbations.
    """
    return _find([str(name) for name in obs.columns], lambda name: obs[name].dropna().astype(str).unique())


def columns_of_source(source: CellSource) -> PerturbationColumns | None:
    """Do as :func:`find_perturbation_columns` for the files of a source, without reading expression."""
    return _find(source.obs_columns, lambda name: source.obs(name)[1])


def is_control(name: str) -> bool:
    """Tell whether a perturbation or guide is a control by its name: ``control``, ``NT``, ``non-targeting_12``, ..."""
    stem = _NUMBER.sub("", name.strip())
    without_sign = stem if stem == name.strip() else _GUIDE_SIGN.sub("", stem)
    return any(_plain(each) in _CONTROLS for each in (name, stem, without_sign))


def targets_of(perturbation: str, columns: PerturbationColumns) -> tuple[str, ...]:
    """Return what a perturbation acts on, as written: ``A+ctrl`` acts on ``A``, a control on nothing.

    Parameters
    ----------
    perturbation
        A value of the column.
    columns
        What was found of the data set.
    """
    if perturbation == columns.control:
        return ()
    parts = [perturbation] if columns.separator is None else perturbation.split(columns.separator)
    parts = [part.strip() for part in parts]
    return tuple(part for part in parts if part and part != columns.control and not is_control(part))


def _find(names: Iterable[str], values_of: Callable[[str], Iterable[str]]) -> PerturbationColumns | None:
    by_plain_name = {_plain(name): name for name in reversed(list(names))}

    def there(known: Iterable[str]) -> list[str]:
        return [by_plain_name[plain] for plain in map(_plain, known) if plain in by_plain_name]

    candidates = {name: sorted(set(values_of(name))) for name in there(chain(_PERTURBATION, _PERHAPS))}
    sure = set(there(_PERTURBATION))
    controls = {name: _control_among(values) for name, values in candidates.items()}

    def rank(name: str) -> tuple[bool, bool]:
        return controls[name] is None, len(candidates[name]) < 3

    usable = [name for name in candidates if candidates[name] and (name in sure or controls[name] is not None)]
    if not usable:
        return None
    chosen = min(usable, key=rank)  # the first of equals
    return PerturbationColumns(
        chosen,
        control=controls[chosen],
        separator=_separator_of(candidates[chosen], controls[chosen]),
        guide=next(iter(there(_GUIDE)), None),
        num_guides=next(iter(there(_NUM_GUIDES)), None),
    )


def _control_among(values: list[str]) -> str | None:
    """Return the value that means control; one without a number first."""
    found = [value for value in values if is_control(value)]
    return min(found, key=lambda value: (_plain(value) not in _CONTROLS, value), default=None)


def _separator_of(values: list[str], control: str | None) -> str | None:
    """Return what joins targets: ``+``, or a sign between two parts that are controls or perturbations on their own."""
    known = set(values)
    for separator in _SEPARATORS:
        for value in values:
            parts = [part.strip() for part in value.split(separator)]
            if value == control or len(parts) < 2 or not all(parts):
                continue
            if separator == "+" or all(part in known or is_control(part) for part in parts):
                return separator
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
