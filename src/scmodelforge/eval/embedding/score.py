"""Scores the held-out cells of one representation by the metrics that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from scmodelforge.eval.base import BenchmarkInputs, Record
from scmodelforge.eval.biology import column_of, labelled
from scmodelforge.eval.embedding.aggregate import aggregates
from scmodelforge.eval.embedding.catalogue import AGGREGATES, METRICS, Metric
from scmodelforge.eval.embedding.clustering import lacks_leiden
from scmodelforge.eval.embedding.measures import Score
from scmodelforge.eval.embedding.official import official_score
from scmodelforge.eval.embedding.scene import Scene
from scmodelforge.eval.harness import stratified_subsample
from scmodelforge.eval.metrics import MANY_RESAMPLES

__all__ = ["MOST_CELLS", "Backend", "score_embedding"]

Backend = Literal["native", "scib-metrics"]

#: More cells are subsampled by label: distances between all pairs are computed, so the time grows with the square.
MOST_CELLS = 50_000


def score_embedding(
    benchmark: str, inputs: BenchmarkInputs, metrics: Sequence[str], *, kmeans_starts: int, backend: Backend
) -> list[Record]:
    """Return one record for each metric, in the order they are listed.

    Parameters
    ----------
    benchmark
        Name in the records.
    inputs
        The cells. Those without a label are left out and counted; so are those without a batch, where it matters.
    metrics
        Names of :data:`~scmodelforge.eval.embedding.catalogue.METRICS` and of aggregates.
    kmeans_starts
        Clusterings k-means tries.
    backend
        What computes the metrics.

    Raises
    ------
    DataError
        If there is no label column, no batch column for a metric of batches, or no labelled cell.
    """
    own = {name: METRICS[name] for name in metrics if name in METRICS}
    scenes = _scenes(benchmark, inputs, own, kmeans_starts)
    scores: dict[str, Score] = {}
    for name, metric in own.items():
        scene = scenes[metric.batches > 0]
        reason = _obstacle(metric, scene) or (lacks_leiden(metric.leiden) if metric.leiden else None)
        if reason is not None:
            scores[name] = Score(None, reason)
        elif backend == "scib-metrics":
            scores[name] = official_score(name, scene)
        else:
            scores[name] = metric.compute(scene)
    if set(metrics) & set(AGGREGATES):
        reasons = {name: score.reason for name, score in scores.items()}
        scores |= aggregates({name: score.value for name, score in scores.items()}, reasons)
    return [
        _record(benchmark, inputs, name, scores[name], scenes[name in AGGREGATES or METRICS[name].batches > 0], backend)
        for name in metrics
    ]


def _scenes(
    benchmark: str, inputs: BenchmarkInputs, metrics: dict[str, Metric], kmeans_starts: int
) -> dict[bool, Scene]:
    """Return the cells with a label, and those of them that have a batch; one scene if these are the same."""
    needs_batch = any(metric.batches for metric in metrics.values())
    everyone = _scene(benchmark, inputs, metrics, kmeans_starts, needs_batch=False)
    if not needs_batch:
        return {False: everyone, True: everyone}
    scene = _scene(benchmark, inputs, metrics, kmeans_starts, needs_batch=True)
    if np.array_equal(scene.cells.embeddings, everyone.cells.embeddings):
        return {False: scene, True: scene}
    return {False: everyone, True: scene}


def _scene(
    benchmark: str, inputs: BenchmarkInputs, metrics: dict[str, Metric], kmeans_starts: int, *, needs_batch: bool
) -> Scene:
    cells, labels, label_names = labelled(benchmark, inputs)
    reference = None if inputs.reference is None else inputs.reference[_labelled_rows(inputs)]
    chosen = np.arange(len(cells))
    if needs_batch:
        chosen = np.flatnonzero(column_of(cells, "batch", benchmark, inputs) != "")
    chosen_from = len(chosen) if len(chosen) > MOST_CELLS else None
    chosen = chosen[stratified_subsample(labels[chosen], MOST_CELLS, inputs.seed)]
    cells, labels = cells.select(chosen), labels[chosen]
    found, labels = np.unique(labels, return_inverse=True)
    batch_names, batches = np.zeros(0, dtype=str), None
    if needs_batch and cells.batches is not None:
        batch_names, batches = np.unique(cells.batches, return_inverse=True)
    return Scene(
        cells=cells,
        labels=labels,
        label_names=label_names[found],
        batches=batches,
        batch_names=batch_names,
        reference=None if reference is None else reference[chosen],
        seed=inputs.seed,
        kmeans_starts=kmeans_starts,
        num_neighbors=max([metric.k for metric in metrics.values() if metric.k < len(cells)], default=1),
        chosen_from=chosen_from,
    )


def _labelled_rows(inputs: BenchmarkInputs) -> np.ndarray:
    """Return the held-out cells that :func:`labelled` returns, in its order."""
    order = inputs.heldout.order()
    assert inputs.heldout.labels is not None
    return order[inputs.heldout.labels[order] != ""]


def _obstacle(metric: Metric, scene: Scene) -> str | None:
    """Return why a metric is not defined for these cells, if so."""
    if len(scene) == 0:
        return "no held-out cell that has a label has a batch"
    if metric.batches > len(scene.batch_names):
        return f"all held-out cells are of the batch '{scene.batch_names[0]}'; two batches are needed"
    if metric.labels > len(scene.label_names):
        return f"all held-out cells have the label '{scene.label_names[0]}'; two labels are needed"
    if scene.cells.is_constant:
        return "all held-out cells have the same embedding"
    if metric.k >= len(scene):
        return f"{len(scene):,} cells are too few: {metric.k} neighbours of each take more than {metric.k} cells"
    if metric.reference and scene.reference is None:
        return "there are no embeddings of the same cells before integration to compare with"
    return None


def _record(benchmark: str, inputs: BenchmarkInputs, name: str, score: Score, scene: Scene, backend: Backend) -> Record:
    if score.value is None:
        return inputs.record(
            benchmark,
            name,
            None,
            n_skipped=len(inputs.heldout),
            skipped_reason=score.reason,
            library=score.library,
            params=score.params,
        )
    num_scored = len(scene) if score.n is None else score.n
    return inputs.record(
        benchmark,
        name,
        score.value,
        **_intervals(inputs, name, score, scene),
        n=num_scored,
        n_skipped=len(inputs.heldout) - num_scored,
        skipped_reason=_left_out(inputs, name, score, scene),
        subsample=scene.chosen_from,
        library=score.library,
        params=_params(name, score, scene, backend),
    )


def _params(name: str, score: Score, scene: Scene, backend: Backend) -> dict[str, Any]:
    params = {**score.params, "seed": scene.seed, "backend": backend}
    if name not in AGGREGATES:
        params["num_duplicates"] = scene.num_duplicates
    if score.cells is not None:
        params["resamples"] = MANY_RESAMPLES
        groups = _groups(scene)
        num_without = 0 if groups is None else int((groups[score.cells.rows] == "").sum())
        if num_without:
            params["num_without_group"] = num_without
    if scene.chosen_from is not None:
        params["subsampled_by"] = "label"
    return params


def _intervals(inputs: BenchmarkInputs, name: str, score: Score, scene: Scene) -> dict[str, Any]:
    if score.cells is None:
        return {"interval": score.interval}
    purpose = name.replace("_", " ")
    draws: dict[str, Any] = {"interval": score.cells.interval(seed=inputs.seed, purpose=purpose)}
    groups, has_groups = _groups(scene), scene.cells.groups is not None
    if groups is not None:
        draws["group_interval"] = score.cells.group_interval(groups, seed=inputs.seed, purpose=purpose)
        if draws["group_interval"] is not None:
            draws["group_key"] = inputs.group_key if has_groups else inputs.batch_key
    return draws


def _groups(scene: Scene) -> np.ndarray | None:
    return scene.cells.groups if scene.cells.groups is not None else scene.cells.batches


def _left_out(inputs: BenchmarkInputs, name: str, score: Score, scene: Scene) -> str | None:
    reasons = [score.reason] if score.reason else []
    if (scene.chosen_from or len(scene)) < len(inputs.heldout):
        reasons += _without(inputs, needs_batch=name in AGGREGATES or METRICS[name].batches > 0)
    if scene.chosen_from is not None:
        reasons.append(f"{len(scene):,} of {scene.chosen_from:,} cells are a sample by label")
    return "; ".join(reasons) or None


def _without(inputs: BenchmarkInputs, *, needs_batch: bool) -> list[str]:
    """Say how many held-out cells have no label, and how many of the others no batch where it matters."""
    labels, batches = inputs.heldout.labels, inputs.heldout.batches
    assert labels is not None
    has_label = labels != ""
    found = {"label": int((~has_label).sum())}
    if needs_batch and batches is not None:
        found["batch"] = int((has_label & (batches == "")).sum())
    return [f"{number:,} cells without a {what}" for what, number in found.items() if number]
