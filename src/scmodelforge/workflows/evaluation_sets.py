"""Which cells the benchmarks of a run are for: its own held-out ones, registered data sets, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from scmodelforge import datasets
from scmodelforge._errors import ConfigError
from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, RunConfig, SplitConfig
from scmodelforge.data.cell_sketch import CellIdentities
from scmodelforge.data.scan import scan
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.splits import split_cells
from scmodelforge.datasets import DatasetInfo
from scmodelforge.eval.benchmarks.label_transfer import LabelTransfer, LabelTransferConfig
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.evaluator import EvaluationSet, Evaluator
from scmodelforge.workflows.label_predictions import LabelHead
from scmodelforge.workflows.label_transfer import TransferSet, transfer_sets
from scmodelforge.workflows.prepare import PreparedData, open_source, with_data_sets
from scmodelforge.workflows.split_recipes import recipe_split
from scmodelforge.workflows.trained_cells import refuse_trained_cells

__all__ = ["HELD_OUT_SHARE", "known_set", "require_data_sets", "run_evaluator", "split_for_evaluation"]

#: Share held out of a data set that is only evaluated on: enough cells to score, enough to fit probes.
HELD_OUT_SHARE = 0.3
_SCHEME = "dataset://"


def run_evaluator(
    config: RunConfig,
    data: PreparedData,
    *,
    untrained: Callable[[], nn.Module],
    head_of: Callable[[nn.Module], LabelHead | None] = lambda _: None,
    baselines: Sequence[str] | None = None,
) -> Evaluator:
    """Return the evaluator of a run's settings: benchmarks on the run's own cells and on other data sets.

    Parameters
    ----------
    config, data
        The settings, and the run's own cells.
    untrained
        Makes the model before training.
    head_of
        Returns the head of a model that learned cell types.
    baselines
        Take the place of those of the settings.

    Raises
    ------
    DataError, ConfigError
        If a data set or column is not there, or there are no held-out cells to score.
    """
    baselines = config.eval.baselines if baselines is None else baselines
    sets = []
    for name, benchmarks in _by_set(config.eval.benchmarks).items():
        if name is None:
            filled = [_with_keys(each, config.data) for each in benchmarks]
            sets.append(EvaluationSet(OWN_CELLS, data, config.data, filled))
        else:
            sets.append(_other_set(name, data, benchmarks, seed=config.eval.seed))
    return Evaluator(
        sets,
        transfers=_transfers(config, data, untrained, baselines),
        head_of=head_of,
        untrained=untrained,
        baselines=baselines,
        max_cells=config.eval.max_cells,
        batch_size=known_batch_size(config.training),
        seed=config.eval.seed,
    )


def _transfers(
    config: RunConfig,
    data: PreparedData,
    untrained: Callable[[], nn.Module],
    baselines: Sequence[str],
) -> list[TransferSet]:
    return transfer_sets(
        config.eval.benchmarks,
        data,
        untrained=untrained,
        baselines=baselines,
        max_cells=config.eval.max_cells,
        batch_size=known_batch_size(config.training),
        seed=config.eval.seed,
    )


def require_data_sets(config: RunConfig) -> None:
    """Make sure that every data set the settings name is on this machine, before anything is read.

    Raises
    ------
    DataError
        If one is not; the message has the command that fetches it.
    ConfigError
        If two would have the same name in results.
    """
    with_data_sets(config.data)
    for name in _by_set(config.eval.benchmarks):
        if name is not None:
            known_set(name)
    for benchmark in config.eval.benchmarks:
        if isinstance(benchmark, LabelTransferConfig):
            for name in LabelTransfer(benchmark).names:
                known_set(name)


def _by_set(benchmarks: Sequence[BenchmarkConfig]) -> dict[str | None, list[BenchmarkConfig]]:
    """Return the benchmarks of each data set; no two sets may be called the same in the results."""
    found: dict[str | None, list[BenchmarkConfig]] = {}
    for benchmark in benchmarks:
        if isinstance(benchmark, LabelTransferConfig):  # of two data sets
            continue
        name = benchmark.dataset
        found.setdefault(name and name.removeprefix(_SCHEME), []).append(benchmark)
    titles: dict[str, str] = {}
    for name in found:
        if name is not None:
            first = titles.setdefault(_title(name), name)
            if first != name or _title(name) == OWN_CELLS:
                others = f"'{first}'" if first != name else "the run's own held-out cells"
                msg = f"eval.benchmarks: '{name}' and {others} are both called '{_title(name)}' in results; rename one."
                raise ConfigError(msg)
    return found


def _title(name: str) -> str:
    return Path(name).stem if _is_file(name) else name


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".h5ad", ".zarr") or "/" in name


def _other_set(name: str, data: PreparedData, benchmarks: list[BenchmarkConfig], *, seed: int) -> EvaluationSet:
    """Return a registered data set or a file, prepared for a model with the run's vocabulary."""
    known = known_set(name)
    if known is None:
        config = LocalDataConfig(paths=[name])
        config.split = SplitConfig(by="auto", validation_fraction=HELD_OUT_SHARE, seed=seed)
    else:
        config = LocalDataConfig(
            paths=[f"dataset://{known.name}"], label_column=known.label_column, batch_column=known.batch_column
        )
    title = _title(name)
    prepared = split_for_evaluation(config, data, known=known)
    refuse_trained_cells(title, data, prepared)
    return EvaluationSet(title, prepared, config, [_with_keys(each, config) for each in benchmarks])


def known_set(name: str) -> DatasetInfo | None:
    """Return what is known of a data set that is on this machine, or ``None`` for a file or store.

    Raises
    ------
    DataError
        If there is none of this name, or it is not on this machine.
    """
    name = name.removeprefix(_SCHEME)
    if _is_file(name):
        return None
    datasets.path(name)
    return datasets.info(name)


def split_for_evaluation(
    config: DataConfig, parts: Bundle | PreparedData, *, known: DatasetInfo | None = None
) -> PreparedData:
    """Return data split for evaluation, prepared with the tokenizer, vocabulary and preprocessing of a model.

    A data set known by name is split by its own recipe, others by the settings.
    """
    source = open_source(config, parts.vocab)
    for panel in source.panels:
        parts.vocab.require_overlap(panel)
    for column in (config.label_column, config.batch_column):
        if column is not None:
            source.obs(column)
    sketch = parts.trained_cells
    genes = None if sketch is None else sketch.genes
    found = CellIdentities(parts.vocab, source.panels, sum(source.file_sizes), genes=genes)
    report = scan(source, parts.vocab, expects=parts.tokenizer.expects, visitors=[found])
    if known is not None and known.split is not None:
        split = recipe_split(source, known.split, known.name, excluded=report.empty)
    else:
        split = split_cells(source, config.split, excluded=report.empty)
    preprocessor = parts.preprocessor.fitted(source)
    prepared = PreparedData(source, parts.tokenizer, preprocessor, parts.vocab, split, len(report.empty))
    prepared.trained_cells, prepared.looked_for = sketch, found
    return prepared


def _with_keys(benchmark: BenchmarkConfig, data: DataConfig) -> BenchmarkConfig:
    """Return a benchmark with the columns it leaves to the data settings."""
    keys = {"label": benchmark.label or data.label_column, "batch": benchmark.batch or data.batch_column}
    return benchmark.model_copy(update=keys)
