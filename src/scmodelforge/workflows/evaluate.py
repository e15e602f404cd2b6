"""Evaluation of a run on its own held-out cells, or of a model on other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig, RunConfig, SplitConfig
from scmodelforge.data.cached import cells_in_cache
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.splits import CellSplit
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import skip_notes
from scmodelforge.eval.tables import terminal_table
from scmodelforge.hub.bundle import Bundle, build_model, load_bundle
from scmodelforge.workflows.embed import find_model_folder
from scmodelforge.workflows.evaluation_sets import HELD_OUT_SHARE, run_evaluator, split_for_evaluation
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.prepare import PreparedData, check_resumable, open_source
from scmodelforge.workflows.runfolder import RunFolder

__all__ = ["EvaluationResult", "evaluate_model"]

_DEFAULT_BENCHMARKS = ("cell_type_annotation", "embedding_quality")


@dataclass
class EvaluationResult:
    """Records, and what is shown of them.

    Attributes
    ----------
    records
        One for each benchmark, metric and representation.
    table
        Headings and rows.
    title
        Title of the table.
    lines
        What to say after it.
    """

    records: list[Record]
    table: list[list[str]]
    title: str
    lines: list[str] = field(default_factory=list)


def evaluate_model(
    model: Path,
    *,
    data: Path | None = None,
    label: str | None = None,
    batch: str | None = None,
    split_by: str | None = None,
    benchmarks: Sequence[str] | None = None,
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    trust_plugins: bool = False,
) -> EvaluationResult:
    """Evaluate a run on its own held-out cells, or a model on other data.

    Parameters
    ----------
    model
        A run folder, or a model folder together with ``data``.
    data
        An .h5ad file. A share of it is held out: whole groups of ``split_by``.
    label, batch
        obs columns; of a run, those of its settings are the default.
    split_by
        As ``data.split.by``, with ``data`` only.
    benchmarks
        Registered names; default: those of the run's settings, else annotation and embedding quality.
    seed
        Seed of the split of ``data``, of probes and of intervals.
    out
        File for the records.
    force
        Replace ``out``.
    trust_plugins
        Import the Python files the model folder names.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before anything is computed.
    """
    if out is not None:
        check_output(out, force=force)
    is_run = (model / "run.json").is_file()
    if data is None and not is_run:
        msg = f"{model} is not a run folder, so there are no held-out cells to use; name a file with --data."
        raise ConfigError(msg)
    if data is None and split_by is not None:
        msg = "--split-by is for other data (--data FILE); a run is scored on the cells it held out."
        raise ConfigError(msg)
    _, config, split, facts = RunFolder.read(model) if is_run else (None, RunConfig(), None, {})
    bundle = load_bundle(find_model_folder(model), trust_plugins=trust_plugins or is_run)
    if data is not None or seed:
        config.eval.seed = seed
    config.data.label_column = label or config.data.label_column
    config.data.batch_column = batch or config.data.batch_column
    if data is not None:
        _use_other_data(config, data, split_by=split_by or "auto", seed=seed)
    _choose_benchmarks(config, benchmarks, is_other_data=data is not None)
    prepared = split_for_evaluation(config.data, bundle) if data is not None else _own(config, bundle, split, facts)
    records = _scored(config, bundle, prepared)
    prepared.source.close()
    if out is not None:
        _write(out, records)
    return EvaluationResult(
        records=records,
        table=terminal_table(records),
        title=f"{len(prepared.split.validation):,} held-out cells (± half of the 95 % bootstrap interval)",
        lines=[
            *skip_notes(records),
            *_seen_in_training(bundle, prepared, is_own=data is None),
            prepared.split.describe(),
            *([f"records: {out}"] if out else []),
        ],
    )


def _use_other_data(config: RunConfig, data: Path, *, split_by: str, seed: int) -> None:
    own = config.data
    config.data = LocalDataConfig(paths=[str(data)], label_column=own.label_column, batch_column=own.batch_column)
    config.data.split = SplitConfig(by=split_by, validation_fraction=HELD_OUT_SHARE, seed=seed)
    source = open_source(config.data)
    for option, column in (("label", own.label_column), ("batch", own.batch_column)):
        if column is not None and column not in source.obs_columns:
            msg = (
                f"{data} has no obs column '{column}'; name its column with --{option}. "
                f"There are: {', '.join(source.obs_columns)}."
            )
            raise ConfigError(msg)
    source.close()


def _choose_benchmarks(config: RunConfig, names: Sequence[str] | None, *, is_other_data: bool) -> None:
    """Keep the run's benchmarks on its own cells; elsewhere take their names only, or those asked for."""
    own = config.eval.benchmarks
    if names or is_other_data or not own:
        chosen = names or dict.fromkeys(each.name for each in own) or _DEFAULT_BENCHMARKS
        config.eval.benchmarks = [_benchmark(name) for name in chosen]


def _benchmark(name: str) -> BenchmarkConfig:
    return getattr(BENCHMARKS.get(name), "config_class", BenchmarkConfig)(name=name)


def _own(config: RunConfig, bundle: Bundle, split: CellSplit | None, facts: dict[str, Any]) -> PreparedData:
    assert split is not None
    source = open_source(config.data)
    check_resumable(source, facts)
    preprocessor, kept = bundle.preprocessor, None
    if config.data.preprocessing.cache is not None:  # of what the model was trained with, whatever the settings say now
        own = config.data.model_copy(update={"preprocessing": preprocessor.config})
        kept = cells_in_cache(source, own, Path(config.data.preprocessing.cache))
    if kept is None:
        preprocessor = preprocessor.fitted(source)
    return PreparedData(source, bundle.tokenizer, preprocessor, bundle.vocab, split, facts["num_empty"], kept=kept)


def _scored(config: RunConfig, bundle: Bundle, prepared: PreparedData) -> list[Record]:
    def untrained() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(config.training.seed)
            return build_model(bundle.model_config, bundle.tokenizer)

    evaluator = run_evaluator(config, prepared, untrained=untrained)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return evaluator.evaluate(bundle.model.to(device), model_id=bundle.model_id, device=device)


def _write(out: Path, records: Sequence[Record]) -> None:
    temporary = out.with_name(out.name + ".writing")
    temporary.write_text("".join(json.dumps(record.to_dict()) + "\n" for record in records))
    temporary.replace(out)


def _seen_in_training(bundle: Bundle, data: PreparedData, *, is_own: bool) -> list[str]:
    """Return a warning if the model was trained on files that its probes are now said to be held out from."""
    trained = {entry["sha256"] for entry in bundle.fingerprint.get("data", [])}
    seen = [entry["name"] for entry in data.source.fingerprint() if entry["sha256"] in trained]
    if is_own or not seen:
        return []
    return [
        f"warning: the model was trained on {', '.join(seen)}, so these scores are not of unseen cells; "
        "evaluate the run's folder without --data for its own held-out cells"
    ]
