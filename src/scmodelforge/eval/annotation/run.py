"""Annotation of held-out cells by probes fitted on training cells, and by groups of cells held out in turn."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from scmodelforge._errors import listed
from scmodelforge.eval.annotation.groups import group_folds, groups_of
from scmodelforge.eval.annotation.open_set import rejection_threshold
from scmodelforge.eval.annotation.probes import ProbeConfig, ProbeName, fit_probe, variant_of, why_not
from scmodelforge.eval.annotation.scoring import TABLE_SCORES, Answers, Scorer
from scmodelforge.eval.annotation.task import AnnotationTask
from scmodelforge.eval.base import BenchmarkInputs, Record
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.standing import MODEL

__all__ = ["annotate", "annotate_by_group", "beside_head"]

_HEAD = "_head"
_OF_HEAD = "the head was trained on these cells' labels, so its confidence on training cells is no measure"


def annotate(benchmark: str, config: ProbeConfig, inputs: BenchmarkInputs) -> list[Record]:
    """Fit the probes on the training cells and score them, and the model's own head, on the held-out cells.

    Raises
    ------
    DataError
        If there is no label column, no cell has a label, or predictions are not of the held-out cells.
    """
    task = AnnotationTask.of(benchmark, inputs, min_class_size=config.min_class_size)
    scorer = Scorer(benchmark, inputs, task.heldout, task)
    records = []
    for probe in config.probes:
        variant = variant_of(probe, config)
        reason = why_not(probe, config, task.train.embeddings, task.train_labels) or task.obstacle
        records += scorer.skipped(variant, reason) if reason else scorer.records(answers_of(probe, config, task))
    if task.predictions is not None:
        names, rows = task.predictions.names, task.predictions.probabilities
        head = Answers("head", names, rows, no_threshold=_OF_HEAD)
        reason = task.obstacle
        if reason is None and not np.isin(task.heldout_labels, names).any():
            reason = f"the head gives none of these labels; it was trained to give {listed([str(n) for n in names], 5)}"
        records += scorer.skipped("head", reason) if reason else scorer.records(head)
    return records


def beside_head(records: list[Record]) -> list[Record]:
    """Return the scores of linear probes of baselines under the names of those of a model's head.

    A head is trained on the labels of the training cells, and so is a linear probe: without it a head would be the
    best of its row for want of others. Noise is no rival.

    Parameters
    ----------
    records
        Of :func:`annotate`, of all representations of the same cells.
    """
    names = [record.metric for record in records if record.value is not None and record.metric.endswith(_HEAD)]
    metric_of = {name.removesuffix(_HEAD) + "_linear_probe": name for name in names}
    return [
        replace(
            record, metric=metric_of[record.metric], params={**record.params, "probe": "linear_probe"}, baselines={}
        )
        for record in records
        if record.representation not in (MODEL, "random") and record.value is not None and record.metric in metric_of
    ]


def answers_of(probe: ProbeName, config: ProbeConfig, task: AnnotationTask) -> Answers:
    """Fit a probe on the training cells of a task and ask it for the held-out ones."""
    fitted = fit_probe(probe, config, task.train.embeddings, task.train_labels)
    threshold = None
    if not np.isin(task.heldout_labels, fitted.names).all():  # else there is nothing to reject
        threshold = rejection_threshold(probe, config, task.train, seed=task.seed)
    return Answers(
        variant=variant_of(probe, config),
        names=fitted.names,
        probabilities=fitted.probabilities(task.heldout.embeddings),
        settings=fitted.settings,
        threshold=threshold,
        no_threshold="no part of the training cells can be held out to find a threshold",
    )


def annotate_by_group(benchmark: str, config: ProbeConfig, inputs: BenchmarkInputs) -> list[Record]:
    """Score probes by cross-validation that holds out whole groups of all cells, trained and held out.

    The probe never sees a group it is scored on. A model whose embeddings these are may have been trained on the
    group's cells, so metrics have names of their own (``accuracy_knn15_by_batch``).

    Raises
    ------
    DataError
        As of :func:`annotate`.
    """
    whole = replace(
        inputs, train=inputs.train.select(np.arange(0)), heldout=_listed(inputs.train, inputs.heldout), predictions=None
    )
    task = AnnotationTask.of(benchmark, whole, min_class_size=config.min_class_size)
    cells, num_without = task.heldout, 0
    groups, _, kind = groups_of(cells, inputs)
    if groups is not None:
        num_without = int((groups == "").sum())
        cells, groups = cells.select(groups != ""), groups[groups != ""]
    notes = [task.left_out, f"{num_without:,} cells without a {kind}" if num_without else None]
    kept = ("num_labels", "scored_labels", "min_class_size", "labels_left_out")
    facts = {name: task.facts[name] for name in kept} | {"held_out_from_model": False}
    task = replace(task, left_out="; ".join(note for note in notes if note) or None, facts=facts)
    scorer = Scorer(benchmark, whole, cells, task)
    return [record for probe in config.probes for record in _by_group(probe, config, scorer, cells, groups, kind)]


def _by_group(
    probe: ProbeName, config: ProbeConfig, scorer: Scorer, cells: Cells, groups: np.ndarray | None, kind: str
) -> list[Record]:
    assert cells.labels is not None
    variant, suffix, names = variant_of(probe, config), f"_by_{kind}", list(TABLE_SCORES)
    if groups is None:
        why = "there is no column of groups, nor one of batches; two groups are needed"
        return scorer.skipped(variant, why, names, suffix)
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        return scorer.skipped(variant, f"the cells are of {num_groups} {kind}; two are needed", names, suffix)
    folds = group_folds(groups)
    given, guess = np.empty_like(cells.labels), np.empty_like(cells.labels)
    settings: dict[str, object] = {}
    num_unseen = 0
    for fold in np.unique(folds):
        is_out = folds == fold
        points, labels = cells.embeddings[~is_out], cells.labels[~is_out]
        reason = why_not(probe, config, points, labels)
        if reason is not None:
            held = ", ".join(np.unique(groups[is_out]))
            return scorer.skipped(variant, f"without {held}, {reason}", names, suffix)
        fitted = fit_probe(probe, config, points, labels)
        given[is_out] = fitted.names[fitted.probabilities(cells.embeddings[is_out]).argmax(axis=1)]
        found, sizes = np.unique(labels, return_counts=True)
        guess[is_out] = found[sizes.argmax()]
        num_unseen += int((~np.isin(cells.labels[is_out], fitted.names)).sum())
        is_done = bool(settings.get("converged", True)) and bool(fitted.settings.get("converged", True))
        settings = fitted.settings | ({"converged": is_done} if "converged" in fitted.settings else {})
    settings |= {"num_folds": len(np.unique(folds)), "num_unseen": num_unseen}
    return scorer.table_records(given, guess, variant, settings, suffix=suffix)


def _listed(first: Cells, second: Cells) -> Cells:
    """Return the cells of both parts, one after another; a column that one lacks is left out."""
    columns: dict[str, Any] = {}
    for each in fields(Cells):
        ours, theirs = getattr(first, each.name), getattr(second, each.name)
        columns[each.name] = None if ours is None or theirs is None else np.concatenate([ours, theirs])
    return Cells(**columns)
