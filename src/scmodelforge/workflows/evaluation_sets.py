"""Which cells the benchmarks of a run are for: its own held-out ones, registered data sets, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from scmodelforge import datasets
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, RunConfig, SplitConfig
from scmodelforge.data.scan import scan
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.splits import split_cells
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.evaluator import EvaluationSet, Evaluator
from scmodelforge.workflows.prepare import PreparedData, open_source

__all__ = ["HELD_OUT_SHARE", "run_evaluator", "split_for_evaluation"]

#: Share held out of a data set that is only evaluated on: enough cells to score, enough to fit probes.
HELD_OUT_SHARE = 0.3


def run_evaluator(config: RunConfig, data: PreparedData, *, untrained: Callable[[], nn.Module]) -> Evaluator:
    """Return the evaluator of a run's settings: benchmarks on the run's own cells and on other data sets.

    Raises
    ------
    DataError, ConfigError
        If a data set or column is not there, or there are no held-out cells to score.
    """
    by_set: dict[str | None, list[BenchmarkConfig]] = {}
    for benchmark in config.eval.benchmarks:
        by_set.setdefault(benchmark.dataset, []).append(benchmark)
    sets = []
    for name, benchmarks in by_set.items():
        if name is None:
            filled = [_with_keys(each, config.data) for each in benchmarks]
            sets.append(EvaluationSet("heldout", data, config.data, filled))
        else:
            sets.append(_other_set(name, data, benchmarks, seed=config.eval.seed))
    return Evaluator(
        sets,
        untrained=untrained,
        max_cells=config.eval.max_cells,
        batch_size=known_batch_size(config.training),
        seed=config.eval.seed,
    )


def _other_set(name: str, data: PreparedData, benchmarks: list[BenchmarkConfig], *, seed: int) -> EvaluationSet:
    """Return a registered data set or a file, prepared for a model with the run's vocabulary."""
    path = name
    label = batch = None
    if not name.endswith(".h5ad"):
        known = datasets.info(name)
        path, label, batch = str(datasets.path(name)), known.label_column, known.batch_column
    config = LocalDataConfig(paths=[path], label_column=label, batch_column=batch)
    config.split = SplitConfig(by="auto", validation_fraction=HELD_OUT_SHARE, seed=seed)
    prepared = split_for_evaluation(config, data)
    return EvaluationSet(Path(name).stem, prepared, config, [_with_keys(each, config) for each in benchmarks])


def split_for_evaluation(config: DataConfig, parts: Bundle | PreparedData) -> PreparedData:
    """Return data split for evaluation, prepared with the tokenizer, vocabulary and preprocessing of a model."""
    source = open_source(config)
    for panel in source.panels:
        parts.vocab.require_overlap(panel)
    for column in (config.label_column, config.batch_column):
        if column is not None:
            source.obs(column)
    report = scan(source, parts.vocab, expects=parts.tokenizer.expects)
    split = split_cells(source, config.split, excluded=report.empty)
    preprocessor = parts.preprocessor.fitted(source)
    return PreparedData(source, parts.tokenizer, preprocessor, parts.vocab, split, len(report.empty))


def _with_keys(benchmark: BenchmarkConfig, data: DataConfig) -> BenchmarkConfig:
    """Return a benchmark with the columns it leaves to the data settings."""
    keys = {"label": benchmark.label or data.label_column, "batch": benchmark.batch or data.batch_column}
    return benchmark.model_copy(update=keys)
