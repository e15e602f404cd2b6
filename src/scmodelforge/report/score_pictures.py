"""Which pictures the records of an evaluation give: made once, for pages and for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.eval.base import Record
from scmodelforge.eval.standing import MODEL, of_fewer
from scmodelforge.report.score_plots import confusion_png, perturbations_png, table_png
from scmodelforge.report.sections.figure import name_of_representation

__all__ = ["ScorePicture", "score_pictures"]

#: Benchmarks whose metrics are 0 to 1 and say of an embedding what scIB's table does.
_EMBEDDING = ("embedding_quality", "batch_integration")
_AGGREGATES = ("bio_conservation", "batch_correction", "total")
_MOST_LABELS = 60
_MOST_OF_A_KIND = 4  # of one benchmark and data set


@dataclass(frozen=True)
class ScorePicture:
    """A picture of scores.

    Attributes
    ----------
    name
        For a file, without its ending.
    title, caption
        What it shows.
    png
        The picture.
    """

    name: str
    title: str
    caption: str
    png: bytes


def score_pictures(records: Sequence[Record]) -> list[ScorePicture]:
    """Return the table of the scores of embeddings, confusion matrices, and scores of single perturbations.

    Parameters
    ----------
    records
        Of one model at one step, and of its baselines.
    """
    return [*_tables(records), *_confusions(records), *_perturbations(records)]


def _tables(records: Sequence[Record]) -> Iterator[ScorePicture]:
    of_embeddings = [r for r in records if r.benchmark in _EMBEDDING]
    for dataset in dict.fromkeys(record.dataset for record in of_embeddings):
        here = [record for record in of_embeddings if record.dataset == dataset]
        drawn = [record for record in here if record.higher_is_better and not record.is_detail]
        keys = list(dict.fromkeys((r.benchmark, r.metric) for r in drawn))
        keys.sort(key=lambda key: (key[1] in _AGGREGATES, key[0]))
        if len(keys) < 2:
            continue
        names = list(dict.fromkeys(record.representation for record in drawn))
        values = {(r.benchmark, r.metric, r.representation): r.value for r in drawn}
        columns = [
            ("aggregate" if metric in _AGGREGATES else benchmark.replace("_", " "), metric.replace("_", " "))
            for benchmark, metric in keys
        ]
        rows = {name_of_representation(name): [values.get((*key, name)) for key in keys] for name in names}
        left = _left(len(keys), len({(r.benchmark, r.metric) for r in here}), "metrics ")
        title = f"Scores of embeddings, {dataset} cells{left}"
        caption = "Each column is a metric, 0 to 1, and higher is better; a score below 0 is drawn as 0. "
        caption += "Circles are larger and darker for higher scores; a dash stands for a score that is not defined."
        yield ScorePicture(f"scores_{_word(dataset)}", title, caption, table_png(columns, rows, title=title))


def _confusions(records: Sequence[Record]) -> Iterator[ScorePicture]:
    found = [(r, each) for r in records if r.representation == MODEL and (each := _confusion(r)) is not None]
    for block in _by_benchmark([record for record, _ in found]):
        for number, record in enumerate(block[:_MOST_OF_A_KIND], start=1):
            labels, counts = next(each for other, each in found if other is record)
            panels = {"model": counts}
            for other in records:
                theirs = _confusion(other) if other.key == record.key and other.representation != MODEL else None
                if theirs is not None and theirs[0] == labels and len(panels) < 2:  # PCA, where it is a baseline
                    panels[name_of_representation(other.representation)] = theirs[1]
            title = f"{record.metric.replace('_', ' ')}, {record.dataset} cells{_place(number, len(block))}"
            caption = f"{int(counts.sum()):,} cells by their true label (rows) and the one they were given (columns)."
            caption += " Colours are shares of a row."
            name = f"confusion_{_word(record.dataset)}_{_word(record.metric)}"
            yield ScorePicture(name, f"Confusion: {title}", caption, confusion_png(labels, panels, title=title))


def _perturbations(records: Sequence[Record]) -> Iterator[ScorePicture]:
    ours = [r for r in records if r.representation == MODEL and not r.is_detail and _single(r)]
    for block in _by_benchmark(ours):
        for number, record in enumerate(block[:_MOST_OF_A_KIND], start=1):
            rivals = [other for other in records if other.key == record.key and other is not record]
            yield _of_perturbations(record, rivals, _place(number, len(block)))


def _of_perturbations(record: Record, rivals: Sequence[Record], place: str) -> ScorePicture:
    """Draw the scores of single perturbations against those of the best baseline that has some of the same."""
    ours = _single(record)
    known = [(other, _single(other)) for other in rivals if other.value is not None]
    known = [(other, rows) for other, rows in known if len(rows.keys() & ours.keys()) > 1]
    row = {each.representation: each for each in (record, *rivals)}
    # A baseline of few perturbations may have the easy ones, and is taken where there is no other.
    best = min(
        known, key=lambda each: (of_fewer(row, each[0].representation) is not None, _rank(each[0])), default=None
    )
    names = [name for name in ours if best is None or name in best[1]]
    model = np.array([ours[name] for name in names])
    other = None if best is None else np.array([best[1][name] for name in names])
    rival = "" if best is None else name_of_representation(best[0].representation)
    total = len(record.tables["per_perturbation"]["perturbation"])
    title = f"{record.metric.replace('_', ' ')} of {len(names):,} perturbations{_left(len(names), total)}"
    title += f"\n{record.benchmark.replace('_', ' ')}, {record.dataset}" + (f"\n{place.lstrip()}" if place else "")
    better = "higher" if record.higher_is_better else "lower"
    caption = f"Each dot is a perturbation; {better} is better."
    if len(names) < total:
        caption += " Left out are those that have no score."
    if best is not None:
        where = "Above" if record.higher_is_better else "Below"
        caption += f" {where} the dashed line the model is better than the best baseline ({rival})."
    png = perturbations_png(names, model, other, metric=record.metric, other_name=rival, title=title)
    name = f"perturbations_{_word(record.dataset)}_{_word(record.benchmark)}_{_word(record.metric)}"
    return ScorePicture(name, title.replace("\n", ", "), caption, png)


def _by_benchmark(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each benchmark and data set, so that each is drawn, whatever the others have."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.benchmark, record.dataset), []).append(record)
    return list(found.values())


def _left(number: int, total: int, what: str = "") -> str:
    """Return how many of all are left out, if any are."""
    return f" ({total - number:,} of {total:,} {what}left out)" if number < total else ""


def _place(number: int, total: int) -> str:
    """Return which metric of a benchmark a picture is of, if not all of them are drawn."""
    if total <= _MOST_OF_A_KIND:
        return ""
    left = total - _MOST_OF_A_KIND
    return f" (picture {number} of {_MOST_OF_A_KIND}; {left} more metric{'' if left == 1 else 's'} left out)"


def _confusion(record: Record) -> tuple[list[str], np.ndarray] | None:
    """Return labels and counts of a record that has them, in either of the two forms."""
    found: Any = record.tables.get("confusion")
    labels, counts = (found.get("labels"), found.get("counts")) if isinstance(found, dict) else (
        record.tables.get("labels"), found)  # fmt: skip
    if not labels or not counts or len(labels) > _MOST_LABELS:
        return None
    return [str(label) for label in labels], np.asarray(counts, dtype=np.float64)


def _single(record: Record) -> dict[str, float]:
    """Return the score of each perturbation, by name."""
    table: Any = record.tables.get("per_perturbation", {})
    if record.metric not in table or "perturbation" not in table:
        return {}
    where = table.get("covariate") or [""] * len(table["perturbation"])
    names = [" ".join(filter(None, words)) for words in zip(table["perturbation"], where, strict=True)]
    return {name: value for name, value in zip(names, table[record.metric], strict=True) if value is not None}


def _rank(record: Record) -> float:
    assert record.value is not None
    return -record.value if record.higher_is_better else record.value


def _word(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)
