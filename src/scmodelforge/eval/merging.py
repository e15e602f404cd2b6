"""Results of several runs in one table: columns for models and baselines, and a block for each set of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import MODEL
from scmodelforge.eval.kinds_of_params import SCORED

__all__ = ["Result", "about_baselines", "merged", "own_baselines"]

#: Why a baseline of one run is not that of another.
_WHY_OWN = {
    "made of the counts of the genes in a run's vocabulary, prepared as the run says and fitted on its training cells; "
    "runs with other genes have other ones": ("pca", "hvg", "scvi"),
    "the model of a run before its first step": ("untrained",),
    "noise as wide as the embedding of a run": ("random",),
}


@dataclass(frozen=True)
class Result:
    """A record and the run it is of."""

    run: str
    record: Record

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the record and ``run``."""
        return {"run": self.run, **self.record.to_dict()}


def merged(results: Sequence[Result]) -> list[Record]:
    """Return records that one table can show.

    With several runs the model's column is named as its run. A baseline has one column if it scored the same in all of
    them, else one for each run, ``run:pca``. Scores of other cells, or of other conditions, genes, edges or labels, are
    in a block of their own: the data set is then named with the beginning of the hashes of these.

    Parameters
    ----------
    results
        Of any runs and data sets.
    """
    several_cells = _keys_of_several_cells(results)
    placed = [
        Result(
            each.run, replace(each.record, dataset=_dataset(each.record, is_one=each.record.key not in several_cells))
        )
        for each in results
    ]
    if len({each.run for each in results}) < 2:
        return [each.record for each in placed]
    shared = _shared_names(placed)
    represented = {each.record.representation for each in placed}

    def named(run: str, name: str) -> str:
        return run if name == MODEL else name if name in shared else f"{run}:{name}"

    found: dict[tuple[str, str], Record] = {}
    for run, record in ((each.run, each.record) for each in placed):
        guesses = {named(run, name): value for name, value in record.baselines.items() if name not in represented}
        name = named(run, record.representation)
        params = record.params if record.representation == MODEL else _without_model(record.params)
        found.setdefault((record.key, name), replace(record, representation=name, baselines=guesses, params=params))
    order = {name: place for place, name in enumerate(_columns(placed, named))}
    return sorted(found.values(), key=lambda record: order[record.representation])


def own_baselines(names: Iterable[str]) -> list[str]:
    """Return why runs have some baselines of their own: a line for each reason, with the names."""
    own = set(names)
    return [
        f"{', '.join(each for each in group if each in own)}: not the same in all runs, being {why}"
        for why, group in _WHY_OWN.items()
        if own.intersection(group)
    ]


def about_baselines(records: Iterable[Record]) -> list[str]:
    """Return lines on the baselines that :func:`merged` gave a column for each run."""
    return own_baselines(name.rpartition(":")[2] for name in {each.representation for each in records} if ":" in name)


def _without_model(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params of a baseline without what was said of the model that it stands beside."""
    return {name: value for name, value in params.items() if not name.startswith("trained_on")}


def _columns(results: Sequence[Result], named: Any) -> list[str]:
    """Return the names of the columns, models first."""
    is_model = [
        [each for each in results if (each.record.representation == MODEL) is wanted] for wanted in (True, False)
    ]
    return list(dict.fromkeys(named(each.run, each.record.representation) for part in is_model for each in part))


def _cells_of(record: Record) -> tuple[Any, ...]:
    return (record.dataset_hash, record.split_hash, record.label_key, record.subsample,
            record.params.get("subsample_size"), record.params.get("subsample_seed"))  # fmt: skip


def _scored_of(record: Record) -> tuple[Any, ...] | None:
    """Return the hashes of what is scored; ``None`` of a record without a value, which need not say."""
    found = tuple(record.params.get(name) for name in SCORED)
    return None if record.value is None and not any(found) else found


def _keys_of_several_cells(results: Iterable[Result]) -> set[str]:
    cells: dict[str, set[Any]] = {}
    scored: dict[str, set[Any]] = {}
    for record in (each.record for each in results):
        cells.setdefault(record.key, set()).add(_cells_of(record))
        scored.setdefault(record.key, set()).add(_scored_of(record))
    return {key for key, found in cells.items() if len(found) > 1 or len(scored[key] - {None}) > 1}


def _dataset(record: Record, *, is_one: bool) -> str:
    if is_one:
        return record.dataset
    words = [f"split {(record.split_hash or 'unknown')[:8]}", f"data {(record.dataset_hash or 'unknown')[:8]}"]
    words += [] if record.label_key is None else [record.label_key]
    words += [f"{what} {record.params[name][:8]}" for name, what in SCORED.items() if name in record.params]
    seed, size = record.params.get("subsample_seed"), record.params.get("subsample_size", record.n)
    words += [] if record.subsample is None else [f"{size} of {record.subsample} cells, seed {seed}"]
    return f"{record.dataset} [{', '.join(words)}]"


def _shared_names(results: Iterable[Result]) -> set[str]:
    """Return the baselines and constant guesses that never have two values for one metric."""
    values: dict[tuple[str, str], set[float | None]] = {}
    for each in results:
        record = each.record
        own = {} if record.representation == MODEL else {record.representation: record.value}
        for name, value in {**record.baselines, **own}.items():
            values.setdefault((name, record.key), set()).add(value)
    names = {name for name, _ in values}
    return names - {name for (name, _), found in values.items() if len(found) > 1}
