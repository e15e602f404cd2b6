"""Which scores of a metric get a star: the best, all that cannot be told apart from it, and no others."""

from __future__ import annotations

from collections.abc import Mapping

from scmodelforge.eval.base import Record
from scmodelforge.eval.differences import difference_interval

__all__ = [
    "MODEL",
    "OUT_OF_COMPETITION",
    "best_names",
    "is_trained_on",
    "of_fewer",
    "out_of_competition",
    "values_by_name",
]

MODEL = "model"

#: Baselines that show what a score is worth and are no rivals, and why.
OUT_OF_COMPETITION = {
    "target_degree": "counted from the known edges that are scored",
    "tf_degree": "counted from the known edges that are scored",
    "permuted_network": "the model against edges put to other genes",
    "permuted_labels": "the model's vectors with the labels of genes exchanged",
}

_NEARLY_ALL = 0.9
#: What records of a model say of the cells that are scored; those that labels come from may be known.
_TRAINED_ON = ("trained_on", "trained_on_query")


def values_by_name(row: Mapping[str, Record]) -> dict[str, float | None]:
    """Return the scores of a metric by representation, those that stand only in ``baselines`` last.

    Parameters
    ----------
    row
        The records of one metric by their representations.
    """
    values: dict[str, float | None] = {name: record.value for name, record in row.items()}
    for record in row.values():
        for name, value in record.baselines.items():
            values.setdefault(name, value)
    return values


def best_names(row: Mapping[str, Record]) -> list[str]:
    """Return who has the best score of a metric, and everybody who cannot be told apart from that one.

    Two scores are told apart if the 95 % interval of their difference, as of
    :func:`~scmodelforge.eval.differences.difference_interval`, does not hold zero, neither the one over cells nor that
    over groups; a score without an interval counts as exact. Out of competition are baselines that read the truth or
    are held against another one, models that were trained on the scored cells, and scores of clearly fewer things.

    Parameters
    ----------
    row
        As of :func:`values_by_name`.
    """
    values = {
        name: value
        for name, value in values_by_name(row).items()
        if value is not None
        and of_fewer(row, name) is None
        and out_of_competition(name) is None
        and not is_trained_on(row, name)
    }
    if not values:
        return []
    highest = next(iter(row.values())).higher_is_better
    best = max(values, key=lambda name: values[name] if highest else -values[name])
    return [name for name in values if _are_alike(row, values, best, name)]


def of_fewer(row: Mapping[str, Record], name: str) -> int | None:
    """Return how many things the scores of a row are of at most, if this one is of fewer than nine tenths of them."""
    most = max((record.n for record in row.values() if record.value is not None), default=0)
    record = row.get(name)
    return None if record is None or record.value is None or record.n >= _NEARLY_ALL * most else most


def out_of_competition(name: str) -> str | None:
    """Return why a baseline is no rival of a model, or ``None`` if it is one; of several runs, ``run:baseline``."""
    return OUT_OF_COMPETITION.get(name.rpartition(":")[2])


def is_trained_on(row: Mapping[str, Record], name: str) -> bool:
    """Tell whether a score is of a model that was trained on the scored cells; baselines are not the model."""
    record = row.get(name)
    if record is None or record.value is None or (MODEL in row and name != MODEL):
        return False
    return any(record.params.get(each) is True for each in _TRAINED_ON)


def _are_alike(row: Mapping[str, Record], values: Mapping[str, float], first: str, second: str) -> bool:
    """Tell whether the interval of a difference holds zero, that over cells or that over groups."""
    ours, theirs = (_bounds(row.get(name), values[name]) for name in (first, second))
    for bounds in zip(ours, theirs, strict=True):
        low, high = difference_interval(values[first], bounds[0], values[second], bounds[1])
        if low <= 0 <= high:
            return True
    return False


def _bounds(record: Record | None, value: float) -> list[list[float]]:
    """Return the interval over cells and that over groups; one that is not there has no length."""
    found = (None, None) if record is None else (record.interval, record.group_interval)
    return [[value, value] if each is None else each for each in found]
