"""What the benchmarks say: a table with baselines and intervals, a picture of it, and metrics over training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scmodelforge.eval.base import Record
from scmodelforge.eval.genes.nearest_tables import nearest_tables
from scmodelforge.eval.standing import MODEL, best_names, is_trained_on, of_fewer, out_of_competition, values_by_name
from scmodelforge.eval.words import Marks, about_marks
from scmodelforge.report.charts import Level, Line, Score, dot_plot, line_chart
from scmodelforge.report.sections.figure import (
    Figure,
    LegendEntry,
    entry_of,
    name_of_representation,
    style_of_representation,
)
from scmodelforge.report.text import number
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["Cell", "Row", "ScoreTable", "score_figures", "score_tables", "skipped", "training_figures"]


@dataclass(frozen=True)
class Cell:
    """A score: its text, the interval's, and whether it is the best of its row or cannot be told apart from that."""

    text: str
    interval: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """A metric with the scores of all representations."""

    metric: str
    n: int
    direction: str
    cells: list[Cell]
    ceiling: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one benchmark on one set of cells."""

    benchmark: str
    dataset: str
    columns: list[str]
    rows: list[Row]
    details: list[Row]
    legend: list[str] = field(default_factory=list)
    nearest: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)

    @property
    def has_ceiling(self) -> bool:
        """Whether the noise ceiling of a metric is known."""
        return any(row.ceiling for row in (*self.rows, *self.details))


def score_tables(run: RunRecord) -> list[ScoreTable]:
    """Return a table for each benchmark of the evaluation that counts."""
    return [
        _table(benchmark, dataset, records) for (benchmark, dataset), records in _by_benchmark(run.latest()).items()
    ]


def _table(benchmark: str, dataset: str, records: Sequence[Record]) -> ScoreTable:
    metrics, marks = _by_metric(records), Marks()
    names = list(dict.fromkeys(name for row in metrics.values() for name in values_by_name(row)))
    rows: dict[bool, list[Row]] = {False: [], True: []}
    for metric, row in metrics.items():
        first, best = next(iter(row.values())), best_names(row)
        direction = "higher is better" if first.higher_is_better else "lower is better"
        cells = [_cell(row, name, marks, is_best=name in best) for name in names]
        n = max(record.n for record in row.values())
        ceilings = [record.noise_ceiling for record in row.values() if record.noise_ceiling is not None]
        ceiling = f"{ceilings[0]:.3f}" if ceilings else ""
        marks.ceiling |= bool(ceilings)
        rows[first.is_detail].append(Row(metric.replace("_", " "), n, direction, cells, ceiling))
    columns = [_heading(name, marks) for name in names]
    nearest = [each for record in records for each in nearest_tables(record)]
    return ScoreTable(_title(benchmark), dataset, columns, rows[False], rows[True], about_marks(marks), nearest)


def score_figures(run: RunRecord) -> list[Figure]:
    """Return a picture of the scores of each benchmark."""
    figures = []
    for (benchmark, dataset), records in _by_benchmark(run.latest()).items():
        scores: list[Score] = []
        seen: dict[str, None] = {}
        for metric, row in _by_metric([record for record in records if not record.is_detail]).items():
            values = {name: value for name, value in values_by_name(row).items() if value is not None}
            intervals = {
                name: (r.interval[0], r.interval[1]) for name, r in row.items() if r.interval and name in values
            }
            if values:
                scores.append(Score(metric.replace("_", " "), values, intervals))
                seen |= dict.fromkeys(values)
        if not scores:
            continue
        title = f"{_title(benchmark)}, {_cells_of(dataset)}"
        described = f"{title}: " + "; ".join(
            f"{score.name}: " + ", ".join(f"{name} {number(v)}" for name, v in score.values.items()) for score in scores
        )
        legend = [LegendEntry(name_of_representation(name), f"mark {style_of_representation(name)}")
                  for name in seen]  # fmt: skip
        caption = f"Scores of the {_cells_of(dataset)}. Bars are 95 % bootstrap intervals over these cells."
        figures.append(Figure(title, dot_plot(scores, x_name="score", title=described), caption, legend))
    return figures


def training_figures(run: RunRecord) -> list[Figure]:
    """Return each metric over the evaluations of training, the baselines as horizontal lines."""
    by_key: dict[str, list[Record]] = {}
    for record in run.results:
        if not record.is_detail:
            by_key.setdefault(record.key, []).append(record)
    figures = []
    for records in by_key.values():
        points = [(r.step or 0, r.value) for r in records if r.representation == MODEL and r.value is not None]
        if not points:
            continue
        first, last = records[0], [r for r in records if r.representation == MODEL][-1]
        levels = [Level(name_of_representation(name), value, style_of_representation(name))
                  for name, value in last.baselines.items()]  # fmt: skip
        title = f"{first.metric.replace('_', ' ')}"
        where = f"{_title(first.benchmark)}, {_cells_of(first.dataset)}"
        described = f"{title} ({where}) by step: model from {number(points[0][1])} to {number(points[-1][1])}; " + (
            ", ".join(f"{level.name} {number(level.value)}" for level in levels)
        )
        line = Line("model" if len(points) > 1 else f"model, at step {points[0][0]:,}", points, "model")
        chart = line_chart(
            [line],
            levels,
            x_name="optimiser step",
            y_name="score",
            title=described,
            steps=(0, run.step),
        )
        legend = [entry_of(line), *(LegendEntry(level.name, level.style) for level in levels)]
        better = "higher" if first.higher_is_better else "lower"
        figures.append(Figure(title, chart, f"{where}; {better} is better.", legend))
    return figures


def skipped(run: RunRecord) -> list[str]:
    """Return what could not be scored, or not on all cells, and why; a sentence for each reason."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for record in run.latest():
        if record.representation == MODEL and record.skipped_reason is not None:
            total = record.n + record.n_skipped
            without = "" if record.value is None else f"{record.n_skipped:,} of the {total:,} cells"
            key = _title(record.benchmark), _cells_of(record.dataset), without, record.skipped_reason
            found.setdefault(key, []).append(record.metric.replace("_", " "))
    return [_skip_note(*key, metrics) for key, metrics in found.items()]


def _skip_note(benchmark: str, cells: str, without: str, reason: str, metrics: list[str]) -> str:
    which = metrics[0] if len(metrics) == 1 else f"{len(metrics)} metrics"
    where = f"{benchmark}, {cells}"
    if not without:
        return f"{where}: {which} could not be computed ({reason})."
    return f"{where}: {which} {'is' if len(metrics) == 1 else 'are'} without {without} ({reason})."


def _by_benchmark(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.benchmark, record.dataset), []).append(record)
    return found


def _by_metric(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        found.setdefault(record.metric, {})[record.representation] = record
    return found


def _heading(name: str, marks: Marks) -> str:
    shown, why = name_of_representation(name), out_of_competition(name)
    if why is None:
        return shown
    marks.out.setdefault(why, {})[shown] = None
    return f"{shown} †"


def _cell(row: dict[str, Record], name: str, marks: Marks, *, is_best: bool) -> Cell:
    record, value = row.get(name), values_by_name(row).get(name)
    if value is None:
        return Cell("not scored" if record is not None else "-")
    is_trained, of = is_trained_on(row, name), of_fewer(row, name)
    marks.trained |= is_trained
    text = f"{value:.3f}{' ‡' if is_trained else ''}"
    if record is None:
        return Cell(text, is_best=is_best)
    if of is not None:
        marks.fewer = True
        text += f" ({record.n:,} of {of:,})"
    parts = [f"{record.interval[0]:.3f} to {record.interval[1]:.3f}"] if record.interval else []
    if record.group_interval is not None:
        parts.append(f"{record.group_key}: {record.group_interval[0]:.3f} to {record.group_interval[1]:.3f}")
    return Cell(text, "; ".join(parts), is_best)


def _title(benchmark: str) -> str:
    return benchmark.replace("_", " ").capitalize()


def _cells_of(dataset: str) -> str:
    return "held-out cells" if dataset == "heldout" else f"cells of {dataset}"
