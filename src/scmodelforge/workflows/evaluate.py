"""Evaluation of runs on their own held-out cells, or of models on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.cached import cells_in_cache
from scmodelforge.data.splits import CellSplit
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import skip_notes
from scmodelforge.eval.merging import Result, about_baselines, merged
from scmodelforge.eval.records import write_records
from scmodelforge.eval.tables import Tables, about_cells, about_details, about_intervals, about_samples, terminal_tables
from scmodelforge.hub.addresses import LocalFolder, parse_address
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.workflows.baseline_embeddings import check_baselines
from scmodelforge.workflows.before_training import before_training, what_untrained_is
from scmodelforge.workflows.chosen_benchmarks import choose_benchmarks
from scmodelforge.workflows.evaluation_sets import run_evaluator, split_for_evaluation
from scmodelforge.workflows.evaluation_splits import write_splits
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.other_cells import use_other_cells
from scmodelforge.workflows.outputs import check_output, whole_file
from scmodelforge.workflows.prepare import PreparedData, check_resumable, open_source
from scmodelforge.workflows.results import run_names
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.trained_cells import (
    cells_of_base,
    refuse_known_cells,
    repeated_cells,
    trained_cells_notes,
)
from scmodelforge.workflows.views import SeenCells

__all__ = ["Choices", "EvaluationResult", "evaluate_models"]


_OTHER_DATA = (
    "evaluate the run's folder without --data for the cells it held out, or name data that it has not seen (with "
    "--allow-trained-cells they are scored, and the results say so)"
)


@dataclass
class EvaluationResult:
    """Records, and what is shown of them.

    Attributes
    ----------
    records
        One for each model, benchmark, metric and representation.
    table
        Tables of the scores, one for each benchmark and data set.
    title
        Title of the table.
    lines
        What to say after it.
    runs
        The run of each record, where several models were evaluated.
    seen
        The scored cells of each model, by the name of its run.
    """

    records: list[Record]
    table: Tables
    title: str
    lines: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    seen: dict[str, SeenCells] = field(default_factory=dict)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the records as plain values; of several models with their ``run``."""
        if len(set(self.runs)) < 2:
            return [record.to_dict() for record in self.records]
        named = zip(self.runs, self.records, strict=True)
        return [Result(run, record).to_dict() for run, record in named]


@dataclass(frozen=True)
class Choices:
    """What is evaluated, and on which cells.

    Attributes
    ----------
    data
        An .h5ad file, of which a share is held out: whole groups of ``split_by``. ``None`` is a run's own cells.
    label, batch
        obs columns; of a run, those of its settings are the default.
    layer, gene_id_column
        As ``data.layer`` and ``data.gene_id_column``, with ``data`` only.
    split_by
        As ``data.split.by``, with ``data`` only.
    benchmarks
        Registered names; default: those of the run's settings, else annotation and embedding quality. Those that the
        run's settings have keep them, on other data too.
    baselines
        Some of :data:`~scmodelforge.workflows.baseline_embeddings.BASELINES`; default: those of the run's settings.
    max_cells
        Most cells of each part of a data set, fitted on and scored; default: that of the run's settings, as of
        ``eval.max_cells``.
    seed
        Seed of the split of ``data``, of probes and of intervals; default: that of the run's settings on its own cells,
        else 0.
    trust_plugins, dictionaries
        As of :func:`~scmodelforge.hub.load.load_model`.
    allow_trained_cells
        Score cells of ``data`` that the model was trained on; the results say so.
    """

    data: Path | None = None
    label: str | None = None
    batch: str | None = None
    layer: str | None = None
    gene_id_column: str | None = None
    split_by: str | None = None
    benchmarks: Sequence[str] | None = None
    baselines: Sequence[str] | None = None
    max_cells: int | None = None
    seed: int | None = None
    trust_plugins: bool = False
    dictionaries: Path | None = None
    allow_trained_cells: bool = False


def evaluate_models(
    models: Sequence[str | Path], choices: Choices, *, out: Path | None = None, force: bool = False
) -> EvaluationResult:
    """Evaluate runs on their own held-out cells, or models on other data.

    Parameters
    ----------
    models
        Run folders, or addresses of models together with ``choices.data``.
    choices
        What is evaluated.
    out
        File for the records; those of several models have ``run`` as a further field. The splits of other data than the
        run's own go into a folder beside it, ``NAME.splits``.
    force
        Replace ``out``.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before anything is computed.
    """
    if out is not None:
        check_output(out, force=force)
    if choices.baselines is not None:
        check_baselines(choices.baselines)
    names = run_names(models)
    prepared = [_prepare(model, choices) for model in models]
    results, lines, seen = list[Result](), list[str](), {}
    for name, each in zip(names, prepared, strict=True):
        splits = None if out is None else out.with_suffix(".splits") / ("" if len(models) == 1 else name)
        records, cells = _scored(each, choices, splits)
        results += [Result(name, record) for record in records]
        own = [*each.notes, *skip_notes(records), *trained_cells_notes(each.data), each.data.split.describe()]
        lines += own if len(models) == 1 else [f"{name}: {line}" for line in own]
        if cells is not None:
            seen[name] = cells
    shown = merged(results)
    what = _about_cells(prepared[0], [each.record for each in results]) if len(models) == 1 else f"{len(models)} models"
    lines = [*about_samples(shown), *about_baselines(shown), *lines, *about_details(shown)]
    title = f"{what} ({about_intervals(shown)})"
    records, runs = [each.record for each in results], [each.run for each in results]
    found = EvaluationResult(records, terminal_tables(shown), title, lines, runs, seen)
    if out is not None:
        with whole_file(out):
            write_records(out, found.to_dicts())
        lines.append(f"records: {out}")
    return found


def _about_cells(each: _Prepared, records: list[Record]) -> str:
    """Return in words what is scored: how many held-out cells, and which other data sets."""
    own = [record for record in records if record.dataset == OWN_CELLS]
    others = dict.fromkeys(record.dataset for record in records if record.dataset != OWN_CELLS)
    words = [f"cells of {', '.join(others)}"] if others else []
    if own:
        there = len(each.data.split.validation)
        words.insert(0, about_cells(own[0].params.get("subsample_size", there), there))
    return " and ".join(words)


@dataclass
class _Prepared:
    """A model with the cells it is to be scored on."""

    config: RunConfig
    bundle: Bundle
    data: PreparedData
    is_own: bool
    notes: list[str]


def _prepare(model: str | Path, choices: Choices) -> _Prepared:
    data, address = choices.data, parse_address(model)
    folder = address.path if isinstance(address, LocalFolder) else None
    is_run = folder is not None and (folder / "run.json").is_file()
    if folder is not None and not folder.exists():
        msg = f"{model}: no such folder; give the folder of a run, or of a model together with --data."
        raise ConfigError(msg)
    if data is None and not is_run:
        msg = f"{model} is not a run folder, so there are no held-out cells to use; name a file with --data."
        raise ConfigError(msg)
    if data is None and choices.split_by is not None:
        msg = "--split-by is for other data (--data FILE); a run is scored on the cells it held out."
        raise ConfigError(msg)
    _, config, split, facts = RunFolder.read(folder) if folder and is_run else (None, RunConfig(), None, {})
    if choices.max_cells is not None:
        config.eval.max_cells = choices.max_cells
    if choices.seed is not None:
        config.eval.seed = choices.seed
    elif data is not None:
        config.eval.seed = 0
    config.data.label_column = choices.label or config.data.label_column
    config.data.batch_column = choices.batch or config.data.batch_column
    notes = choose_benchmarks(config, choices.benchmarks, label=choices.label, batch=choices.batch, data=data)
    if data is not None:
        use_other_cells(
            config,
            data,
            layer=choices.layer,
            gene_id_column=choices.gene_id_column,
            split_by=choices.split_by or "auto",
        )
    trusted = choices.trust_plugins or is_run  # after all else, since it may have to be fetched
    bundle = load_model(model, dictionaries=choices.dictionaries, trust_plugins=trusted)
    if data is None:
        return _Prepared(config, bundle, _own(config, bundle, split, facts), is_own=True, notes=notes)
    prepared = split_for_evaluation(config.data, bundle)
    if not choices.allow_trained_cells:
        refuse_known_cells(data.name, prepared, _OTHER_DATA)
    return _Prepared(config, bundle, prepared, is_own=False, notes=notes)


def _own(config: RunConfig, bundle: Bundle, split: CellSplit | None, facts: dict[str, Any]) -> PreparedData:
    assert split is not None
    source = open_source(config.data, None if config.finetune is None else bundle.vocab)
    check_resumable(source, facts)
    preprocessor, kept = bundle.preprocessor, None
    if config.data.preprocessing.cache is not None:  # of what the model was trained with, whatever the settings say now
        own = config.data.model_copy(update={"preprocessing": preprocessor.config})
        kept = cells_in_cache(source, own, Path(config.data.preprocessing.cache))
    if kept is None:
        preprocessor = preprocessor.fitted(source)
    prepared = PreparedData(source, bundle.tokenizer, preprocessor, bundle.vocab, split, facts["num_empty"], kept=kept)
    prepared.trained_cells, prepared.repeated = bundle.trained_cells, repeated_cells(facts)
    prepared.base_cells, prepared.base_scored = cells_of_base(facts)
    return prepared


def _scored(each: _Prepared, choices: Choices, splits: Path | None) -> tuple[list[Record], SeenCells | None]:
    bundle, config = each.bundle, each.config

    baselines = list(config.eval.baselines if choices.baselines is None else choices.baselines)
    untrained, baselines, notes = before_training(config, bundle, baselines)
    evaluator = run_evaluator(
        config,
        each.data,
        untrained=untrained,
        head_of=lambda model: label_head(model, bundle.model_config, bundle.labels),
        baselines=baselines,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    records = evaluator.evaluate(bundle.model.to(device), model_id=bundle.model_id, device=device)
    for record in records:
        record.params["model_origin"] = bundle.origin
    each.notes += [*notes, *what_untrained_is(config, records)]
    if splits is not None:
        with whole_file(splits):
            write_splits(splits, evaluator, with_own=not each.is_own)
    each.data.source.close()
    return records, evaluator.seen()
