"""Runs benchmarks on a model and on its baselines, and puts their scores side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import mix
from scmodelforge.eval.base import Benchmark, BenchmarkInputs, Record
from scmodelforge.eval.standing import MODEL, best_names, is_trained_on, of_fewer, out_of_competition, values_by_name

__all__ = ["MODEL", "evaluate", "skip_notes", "stratified_subsample", "summary_table", "winners"]


def evaluate(benchmarks: Sequence[Benchmark], representations: Mapping[str, BenchmarkInputs]) -> list[Record]:
    """Run every benchmark on every representation of the same cells.

    Parameters
    ----------
    benchmarks
        What is run.
    representations
        Inputs by the name of the representation, ``model`` among them. A baseline that lacks what a benchmark needs
        (PCA has no gene embeddings, say) is not run on it.

    Returns
    -------
    The records of all, benchmark after benchmark. ``baselines`` of the model's records hold the baselines' values.

    Raises
    ------
    DataError
        If the representations are not of the same cells, or the model lacks what a benchmark needs.
    """
    _check_same_cells(representations)
    records: list[Record] = []
    for benchmark in benchmarks:
        found: list[Record] = []
        for name, inputs in representations.items():
            lacking = sorted(need for need in benchmark.needs - {"embeddings"} if getattr(inputs, need) is None)
            if lacking and name == MODEL:
                msg = f"{type(benchmark).__name__} needs {', '.join(lacking)}, which the model's inputs do not have."
                raise DataError(msg)
            if lacking:
                continue
            began = time.perf_counter()
            scored = benchmark.run(inputs)
            for record in scored:
                record.seconds = time.perf_counter() - began
            found += scored
        rivals = getattr(benchmark, "rivals", None)
        found += [] if rivals is None else rivals(found)
        _fill_baselines(found)
        records += found
    return records


def stratified_subsample(labels: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Choose cells so that each label keeps its share.

    Parameters
    ----------
    labels
        Shape (n,), str.
    max_cells
        Most cells to choose. Each label gets at least one if there are no more labels than that.
    seed
        Seed of the choice.

    Returns
    -------
    Indices of the chosen cells, ascending, int64; all of them if there are no more than ``max_cells``.
    """
    labels = np.asarray(labels)
    if len(labels) <= max_cells:
        return np.arange(len(labels), dtype=np.int64)
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = _shares(sizes, max_cells)
    draws = mix(seed, "subsample", np.arange(len(labels)))
    order = np.lexsort((draws, codes))  # by label, then by draw
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[ranks < np.repeat(shares, sizes)]).astype(np.int64)


def summary_table(records: Iterable[Record], *, details: bool = False) -> list[list[str]]:
    """Put metrics into rows and representations into columns.

    Parameters
    ----------
    records
        Of one or several data sets and benchmarks.
    details
        Also list the metrics that records call details.

    Returns
    -------
    Rows of text, the first of them headings. The best score of a row and those that cannot be told apart from it, as
    of :func:`~scmodelforge.eval.standing.best_names`, have a ``*``, and their owners stand in the last column, be they
    baselines. Behind a score stands its 95 % interval over cells, and behind the column of the groups that over
    groups. A score of less than nine tenths of what others of its row are scores of says of how many it is. ``†`` and
    ``‡`` are as in :mod:`scmodelforge.eval.words`.
    """
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        if details or not record.is_detail:
            rows.setdefault(record.key, {})[record.representation] = record
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    others = dict.fromkeys(name for row in rows.values() for each in row.values() for name in each.baselines)
    extra = [name for name in others if name not in names]
    headings = [f"{name}{'†' if out_of_competition(name) else ''}" for name in [*names, *extra]]
    table = [["metric", *headings, "best"]]
    for key, row in rows.items():
        values, best = values_by_name(row), best_names(row)
        signs = {name: "*" if name in best else "‡" if is_trained_on(row, name) else "" for name in [*names, *extra]}
        cells = [_cell(row.get(name), values.get(name), sign, of=of_fewer(row, name)) for name, sign in signs.items()]
        table.append([key, *cells, ", ".join(best) or "-"])
    return table


def skip_notes(records: Iterable[Record]) -> list[str]:
    """Return a line for each group of metrics of the model that could not be given, or not for all cells, and why."""
    notes: dict[str, list[str]] = {}
    for record in records:
        if record.value is None and record.is_detail:  # short tables leave it out as well
            continue
        if record.representation == MODEL and record.skipped_reason is not None:
            total = record.n + record.n_skipped
            number = f"{record.n_skipped:,} of {total:,} " if record.n_skipped else ""
            what = "not scored" if record.value is None else f"{number}left out"
            where = f"eval/{record.benchmark}/{record.dataset}"
            notes.setdefault(f"{where}: {{}}: {what}: {record.skipped_reason}", []).append(record.metric)
    return [
        line.replace("{}", metrics[0] if len(metrics) == 1 else f"{len(metrics)} metrics", 1)
        for line, metrics in notes.items()
    ]


def winners(records: Iterable[Record]) -> Counter[str]:
    """Count the metrics in which each representation is best or not told apart from the best, details aside."""
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        if not record.is_detail and record.value is not None:
            rows.setdefault(record.key, {})[record.representation] = record
    return Counter(name for row in rows.values() for name in best_names(row))


def _check_same_cells(representations: Mapping[str, BenchmarkInputs]) -> None:
    if MODEL not in representations:
        msg = f"no '{MODEL}' among the representations ({', '.join(representations) or 'none'}); give its embeddings."
        raise DataError(msg)
    model = representations[MODEL]
    for name, inputs in representations.items():
        for part in ("train", "heldout"):
            ours, theirs = getattr(model, part), getattr(inputs, part)
            for column in ("positions", "names", "labels", "batches"):
                first, second = getattr(ours, column), getattr(theirs, column)
                if len(ours) != len(theirs) or (first is None) != (second is None) or not _equal(first, second):
                    msg = f"'{name}' and 'model' have different {part} cells ({column}); scores need the same ones."
                    raise DataError(msg)


def _equal(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is None or second is None or np.array_equal(first, second)


def _fill_baselines(records: list[Record]) -> None:
    values = {(record.metric, record.representation): record.value for record in records}
    names = list(dict.fromkeys(record.representation for record in records if record.representation != MODEL))
    for record in records:
        if record.representation == MODEL:
            found = {name: values.get((record.metric, name)) for name in names}
            record.baselines |= {name: value for name, value in found.items() if value is not None}


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """Divide ``total`` in proportion to sizes: the floors, at least one each, then the largest remainders."""
    wanted = sizes * total / sizes.sum()
    shares: np.ndarray = np.floor(wanted).astype(np.int64)
    if len(sizes) <= total:
        shares = np.maximum(shares, 1)
    while shares.sum() < total:
        shares[np.argmax(np.where(shares < sizes, wanted - shares, -np.inf))] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > 1, shares - wanted, -np.inf))] -= 1
    return shares


def _cell(record: Record | None, value: float | None, sign: str, *, of: int | None) -> str:
    if value is None:
        return "-" if record is None else "skipped"
    text = f"{value:.3f}{sign}"
    if record is not None and record.interval is not None:
        text += f" [{record.interval[0]:.3f}, {record.interval[1]:.3f}]"
    if record is not None and record.group_interval is not None:
        text += f" {record.group_key} [{record.group_interval[0]:.3f}, {record.group_interval[1]:.3f}]"
    if record is not None and of is not None:
        text += f" ({record.n:,} of {of:,})"
    return text
