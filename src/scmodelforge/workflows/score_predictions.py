"""Scores of a file of predicted perturbations, whatever model made it, beside every baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.data.sources._digest import content_digest
from scmodelforge.data.splits import split_digest
from scmodelforge.eval.base import BenchmarkInputs, Cells, Record
from scmodelforge.eval.harness import evaluate
from scmodelforge.eval.perturbation.baselines import (
    baseline_cells,
    baseline_means,
    baseline_names,
    predicted_by_mean,
)
from scmodelforge.eval.perturbation.export import check_export, export_covariates
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions, read_predictions
from scmodelforge.eval.perturbation.linear import GeneFactors
from scmodelforge.eval.perturbation.scales import Scale
from scmodelforge.eval.perturbation.splits import read_conditions
from scmodelforge.eval.records import write_records
from scmodelforge.eval.tables import about_details, terminal_tables
from scmodelforge.tokenizers.vector_files import read_vectors
from scmodelforge.workflows.evaluate import EvaluationResult
from scmodelforge.workflows.outputs import check_output, whole_file

__all__ = ["score_predictions", "scored"]

_NOT_SCORED = frozenset({"layers", "obsm", "obsp", "raw", "uns", "varm", "varp"})
_DEFAULT_BENCHMARKS = ("perturbation_prediction",)
_NAMED = 4  # metrics of a note


def score_predictions(
    predictions: Path,
    data: Path,
    *,
    scale: Scale | None,
    condition: str | None,
    control: str | None,
    covariates: Sequence[str] = (),
    train_conditions: Path | None = None,
    gene_vectors: Path | None = None,
    benchmarks: Sequence[str] | None = None,
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    export_to: Path | None = None,
) -> EvaluationResult:
    """Score predictions of perturbations against what was measured.

    Parameters
    ----------
    predictions, data
        AnnData files; see :func:`~scmodelforge.eval.perturbation.inputs.read_predictions`.
    scale, condition, control, covariates
        As there; the first three must be said.
    train_conditions
        File with the conditions that were trained on, or a split.
    gene_vectors
        File of gene vectors, for baselines on them.
    benchmarks
        Registered names of benchmarks of predictions.
    seed
        Seed of intervals, noise ceilings and random embeddings.
    out, force
        File for the records, and whether to replace it.
    export_to
        New folder for the same cells as cell-eval and the Virtual Cell Challenge read them; with covariates, a folder
        in it for each.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong.
    """
    for option, value in (("--scale", scale), ("--condition", condition), ("--control", control)):
        if value is None:
            msg = (
                f"{option} is not given; predictions need --condition COLUMN, --control NAME, --scale log1p or counts."
            )
            raise ConfigError(msg)
    assert scale is not None
    assert condition is not None
    assert control is not None
    if out is not None:
        check_output(out, force=force)
    if export_to is not None and export_to.exists():
        msg = f"--export-cell-eval: {export_to} exists; name another folder."
        raise ConfigError(msg)
    made = [_benchmark(name) for name in benchmarks or _DEFAULT_BENCHMARKS]
    split = read_conditions(train_conditions) if train_conditions is not None else {}
    vectors = _vectors(gene_vectors)
    found = read_predictions(
        _read(predictions, "--predictions"),
        _read(data, "--data"),
        scale=scale,
        condition=condition,
        control=control,
        covariates=covariates,
        train=split.get("train"),
        test=split.get("test"),
    )
    if export_to is not None:
        check_export(found, export_to)
    records, notes = scored(found, made, _facts(data, predictions, split, seed), vectors)
    exported = [] if export_to is None else export_covariates(found, export_to)
    if out is not None:
        with whole_file(out):
            write_records(out, (record.to_dict() for record in records))
    return EvaluationResult(
        records,
        terminal_tables(records),
        title=f"{len(found.comparison.groups):,} held-out perturbations (± half of the 95 % bootstrap interval)",
        lines=[
            *notes,
            *about_details(records),
            *([f"records: {out}"] if out else []),
            *exported,
        ],
        runs=[predictions.stem] * len(records),
    )


def scored(
    found: PerturbationPredictions, made: Sequence[Any], facts: dict[str, Any], vectors: GeneFactors | None
) -> tuple[list[Record], list[str]]:
    """Score predictions and every baseline, made from the training conditions alone.

    Parameters
    ----------
    found
        What :func:`~scmodelforge.eval.perturbation.inputs.read_predictions` returned.
    made
        The benchmarks.
    facts
        What all records have in common: ``dataset``, ``dataset_hash``, ``split_hash``, ``model_id`` and ``seed``.
    vectors
        Vectors of genes for baselines on them.

    Returns
    -------
    The records, and what is to be said of them.
    """
    by_mean = _numbers_by_mean(found, vectors)
    records = evaluate(made, _representations(found, vectors, facts, by_mean))
    return records, [*_notes(found, records), *_notes_on_baselines(by_mean, len(found.comparison.groups))]


def _facts(data: Path, predictions: Path, split: dict[str, list[tuple[str, str]]], seed: int) -> dict[str, Any]:
    """Return what all records have in common."""
    plain = {name: sorted(map(list, pairs)) for name, pairs in split.items()}
    return {
        "dataset": data.stem,
        "dataset_hash": content_digest(data)["sha256"],
        "split_hash": split_digest(plain) if split else None,
        "model_id": content_digest(predictions)["sha256"],
        "seed": seed,
    }


def _benchmark(name: str) -> Any:
    benchmark = BENCHMARKS.get(name)
    if "predictions" not in benchmark.needs:  # type: ignore[attr-defined]
        own = [each for each in BENCHMARKS.names() if "predictions" in BENCHMARKS.get(each).needs]  # type: ignore[attr-defined]
        msg = f"benchmark '{name}' does not score predictions; with --predictions use one of: {', '.join(own)}."
        raise ConfigError(msg)
    return benchmark(getattr(benchmark, "config_class", BenchmarkConfig)(name=name))


def _read(path: Path, option: str) -> Any:
    if not path.is_file():
        msg = f"{option}: no file '{path}'; correct the path."
        raise ConfigError(msg)
    try:
        return _scored_parts(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as problem:  # as anndata tells of what is none
        msg = f"{option}: {path} cannot be read as an .h5ad file ({' '.join(str(problem).split())}); name another."
        raise DataError(msg) from problem


def _scored_parts(path: Path) -> Any:
    """Return an AnnData of a file without what is never scored, which is often more than what is."""
    import h5py
    from anndata.experimental import read_dispatched

    def only_scored(read: Any, place: str, item: Any, *, iospec: Any) -> Any:
        is_part = place.strip("/") in _NOT_SCORED
        return ({} if place.strip("/") != "raw" else None) if is_part else read(item)

    with h5py.File(path) as file:
        # Of one without X the message names the layers; of one of an old form anndata knows the parts.
        if "X" not in file or "encoding-type" not in file.attrs:
            import anndata as ad

            return ad.read_h5ad(path)
        return read_dispatched(file, only_scored)


def _vectors(path: Path | None) -> GeneFactors | None:
    if path is None:
        return None
    if not path.is_file():
        msg = f"--gene-vectors: no file '{path}'; correct the path."
        raise ConfigError(msg)
    named = read_vectors(path)
    return GeneFactors.given(named.genes, named.vectors)


def _numbers_by_mean(found: PerturbationPredictions, vectors: GeneFactors | None) -> dict[str, int]:
    """Return the baselines, and for how many perturbations each has nothing better than the mean change."""
    groups = found.comparison.groups
    return {
        name: len(predicted_by_mean(name, found.training, groups, vectors=vectors))
        for name in baseline_names(found.training, groups, vectors)
    }


def _representations(
    found: PerturbationPredictions, vectors: GeneFactors | None, facts: dict[str, Any], by_mean: dict[str, int]
) -> dict[str, BenchmarkInputs]:
    """Return the inputs of the model and of each baseline, made from the training conditions alone."""
    comparison = found.comparison
    own = {"model": found}
    for name in by_mean:
        if by_mean[name] == len(comparison.groups):
            continue  # it would be 'perturbed_mean' under another name
        means = baseline_means(name, found.training, comparison.groups, seed=facts["seed"], vectors=vectors)
        own[name] = found.predicting(baseline_cells(means, comparison.real))
    labels = np.array([group.label for group in comparison.groups])
    heldout = Cells(np.zeros((len(labels), 0), np.float32), names=labels)
    nothing = Cells(np.zeros((0, 0), np.float32), names=labels[:0])
    return {
        name: BenchmarkInputs(train=nothing, heldout=heldout, representation=name, predictions=each, **facts)
        for name, each in own.items()
    }


def _notes(found: PerturbationPredictions, records: Iterable[Record]) -> list[str]:
    facts, notes = found.facts, []
    if facts["num_genes_not_predicted"]:
        total = facts["num_genes"] + facts["num_genes_not_predicted"]
        notes.append(
            f"{facts['num_genes_not_predicted']:,} of {total:,} measured genes are not predicted, and left out"
        )
    if facts["num_predicted_not_scored"]:
        notes.append(f"{facts['num_predicted_not_scored']:,} predicted conditions are not measured or not to be scored")
    if facts["num_test_not_predicted"]:
        notes.append(f"warning: {facts['num_test_not_predicted']:,} conditions of the split's test are not predicted")
    if facts["predicted_control"] == "real":
        notes.append("the predictions have no control cells; the real ones are taken")
    if "largest_prediction" in facts:
        notes.append(
            f"warning: the predictions are fractional and none is above {facts['largest_prediction']:.4g}, as "
            "logarithms would be; they are taken for expected counts, as --scale says"
        )
    if not found.training.means:
        notes.append("warning: no condition to train on, so 'no_change' is the only baseline (--train-conditions)")
    return [*notes, *_notes_on_skipped(records, len(found.comparison.groups))]


def _notes_on_skipped(records: Iterable[Record], total: int) -> list[str]:
    """Say which metrics of the model have no value, for how many perturbations, and why; those of the table first."""
    skipped: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        if record.representation == "model" and record.skipped_reason:
            skipped.setdefault((record.n_skipped, record.skipped_reason), []).append(record)
    notes = []
    for (count, reason), own in skipped.items():
        names = listed([record.metric for record in sorted(own, key=lambda record: record.is_detail)], _NAMED)
        of = f" for {count:,} of {total:,}" if count else ""
        notes.append(f"{names}: without a value{of}: {reason}")
    return notes


def _notes_on_baselines(by_mean: dict[str, int], total: int) -> list[str]:
    """Say which baselines are, for some or all perturbations, the mean change."""
    notes = dict[str, list[str]]()
    for name, number in by_mean.items():
        if number == total:
            notes.setdefault("left out, being the mean change: no perturbed gene has a vector", []).append(name)
        elif number:
            what = f"the mean change for {number:,} of {total:,} perturbations, whose genes have no vector"
            notes.setdefault(what, []).append(name)
    return [f"baseline {', '.join(names)}: {what}" for what, names in notes.items()]
