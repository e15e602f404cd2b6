"""``scmodelforge evaluate``: benchmarks of a trained model, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from scmodelforge import _console
from scmodelforge._errors import ConfigError
from scmodelforge._wording import in_words_of, worded

if TYPE_CHECKING:
    from scmodelforge.workflows.evaluate import EvaluationResult

__all__ = ["BareBaselines", "evaluate"]

_UNTRAINED = "pca,hvg,random,untrained"
_OPTIONS = {
    "data.paths": "--data",
    "data.layer": "--layer",
    "data.gene_id_column": "--gene-id-column",
    "data.label_column": "--label",
    "data.batch_column": "--batch",
    "data.split.by": "--split-by",
}


class BareBaselines(TyperCommand):
    """Takes ``--baselines`` without names too: all that need no training."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the names in where there are none."""
        filled = []
        for place, word in enumerate(args):
            after = args[place + 1] if place + 1 < len(args) else "-"
            is_model = "://" in after or Path(after).exists()
            is_bare = word == "--baselines" and (after.startswith("-") or is_model)
            filled.append(f"--baselines={_UNTRAINED}" if is_bare else word)
        return super().parse_args(ctx, filled)


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="Run folders; with --data also model folders, hf://..., scmodelforge://..."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="AnnData file to evaluate on; default: the held-out cells of the run.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="obs column with the cell types.")] = None,
    batch: Annotated[str | None, typer.Option(help="obs column with the batch.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="With --data: where its counts are: X, raw or a layer's name; default: looked for."),
    ] = None,
    gene_id_column: Annotated[
        str | None, typer.Option(help="With --data: var column with gene ids; default: looked for.")
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="With --data: obs column of groups held out whole, or 'cells' for single cells; 'auto' (default) is "
            "the first donor column (donor_id, donor, patient, ..., sample_id) that has two groups of 10 cells, and "
            "'cells' if none has. The line 'held out ...' says which."
        ),
    ] = None,
    benchmarks: Annotated[
        list[str] | None, typer.Option("--benchmark", "--eval", help="Benchmark to run. Repeatable, or a,b.")
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="[NAMES]",
            help=f"Score these beside the model: {_UNTRAINED} (also without names), scvi (is trained first).",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Instead of MODEL: AnnData file of predicted perturbations; --data has the real."),
    ] = None,
    condition: Annotated[str | None, typer.Option(help="With --predictions: obs column of the perturbation.")] = None,
    control: Annotated[str | None, typer.Option(help="With --predictions: its value that means control.")] = None,
    covariate: Annotated[
        list[str] | None, typer.Option(help="With --predictions: obs column such as the cell line. Repeatable.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="With --predictions: log1p or counts; never guessed.")] = None,
    train_conditions: Annotated[
        Path | None, typer.Option(help="With --predictions: file of the conditions trained on, or a split.")
    ] = None,
    gene_vectors: Annotated[
        Path | None, typer.Option(help="With --predictions: gene vectors, for baselines on them.")
    ] = None,
    export_cell_eval: Annotated[
        Path | None,
        typer.Option(help="With --predictions: new folder for pred.h5ad and real.h5ad as cell-eval reads them."),
    ] = None,
    max_cells: Annotated[
        int | None,
        typer.Option(
            min=2, help="Most cells scored of each data set, and fitted on; default: the run's eval.max_cells."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of splits, probes and intervals; default: the run's own, else 0.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the records to this .jsonl file.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Also draw the scores and the cells into this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files of --out and --plots.")] = False,
    allow_trained_cells: Annotated[
        bool, typer.Option("--allow-trained-cells", help="Score --data that the model was trained on; results say so.")
    ] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    dictionaries: Annotated[Path | None, typer.Option(help="Folder with dictionaries of a published model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record a line instead of a table.")] = False,
) -> None:
    """Score models on held-out cells, or predictions of perturbations, beside their baselines.

    Example: scmodelforge evaluate runs/quickstart --baselines
    """
    if plots is not None:
        from scmodelforge.report.evaluation_plots import check_plots

        check_plots(plots, force=force)
    names = _listed(benchmarks or []) or None
    of_predictions: dict[str, Any] = {
        "condition": condition,
        "control": control,
        "covariates": covariate,
        "scale": scale,
        "train_conditions": train_conditions,
        "gene_vectors": gene_vectors,
        "export_cell_eval": export_cell_eval,
    }
    of_models: dict[str, Any] = {
        "label": label,
        "batch": batch,
        "layer": layer,
        "gene_id_column": gene_id_column,
        "split_by": split_by,
        "baselines": baselines,
        "max_cells": max_cells,
        "trust_plugins": trust_plugins,
        "dictionaries": dictionaries,
        "allow_trained_cells": allow_trained_cells,
    }
    output: dict[str, Any] = {"out": out, "force": force}
    if predictions is not None:
        _refuse("--predictions", of_models)
        if models or data is None:
            msg = "--predictions needs --data REAL.h5ad, and takes the place of MODEL."
            raise ConfigError(msg)
        result = _of_predictions(predictions, data, of_predictions, benchmarks=names, seed=seed or 0, **output)
    else:
        _refuse("MODEL", of_predictions)
        if not models:
            msg = "name a run or model folder, or a file of predicted perturbations with --predictions."
            raise ConfigError(msg)
        if data is None:
            own = {"allow_trained_cells": allow_trained_cells, "layer": layer, "gene_id_column": gene_id_column}
            _refuse("a run's own cells", own)
        # The run's own cells are read as its settings say, other data as the options do.
        words = {} if data is None else _OPTIONS
        with in_words_of(words):
            result = _of_models(models, {**of_models, "data": data, "benchmarks": names, "seed": seed}, **output)
        result.lines = [worded(line, words) for line in result.lines]
    _show(result, plots=plots, seed=seed or 0, as_json=as_json)


def _of_predictions(predictions: Path, data: Path, options: dict[str, Any], **others: Any) -> EvaluationResult:
    from scmodelforge.workflows.score_predictions import score_predictions

    given = {**options, "covariates": options["covariates"] or (), "export_to": options["export_cell_eval"]}
    del given["export_cell_eval"]
    return score_predictions(predictions, data, **given, **others)


def _of_models(models: list[str], options: dict[str, Any], **output: Any) -> EvaluationResult:
    from scmodelforge.workflows.evaluate import Choices, evaluate_models

    baselines = options["baselines"]
    options["baselines"] = None if baselines is None else _listed([baselines])
    return evaluate_models(models, Choices(**options), **output)


def _refuse(beside: str, options: dict[str, Any]) -> None:
    """Refuse options that have no effect beside another one."""
    given = [f"--{name.removesuffix('s' if name == 'covariates' else '')}" for name, value in options.items() if value]
    if given:
        msg = f"{given[0].replace('_', '-')} has no effect with {beside}; leave it out."
        raise ConfigError(msg)


def _show(result: EvaluationResult, *, plots: Path | None, seed: int, as_json: bool) -> None:
    if plots is not None:
        from scmodelforge.report.evaluation_plots import write_plots
        from scmodelforge.workflows.outputs import whole_file

        with whole_file(plots):
            result.lines += [f"picture: {path}" for path in write_plots(plots, result, seed=seed)]
    if as_json:
        for values in result.to_dicts():
            _console.json_line(values)
        return
    _console.tables(result.table.tables, title=result.title, legend=result.table.legend)
    for line in result.lines:
        _console.say(line)


def _listed(words: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))
