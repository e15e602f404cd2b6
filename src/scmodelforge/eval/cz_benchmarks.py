"""The tasks of cz-benchmarks (Chan Zuckerberg Initiative, MIT), run on embeddings of cells. Needs the package."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from scmodelforge._optional import require

__all__ = [
    "METRICS",
    "MIN_CLASS_SIZE",
    "SEED",
    "CzTask",
    "check_installed",
    "library",
    "run_task",
    "task_baseline",
]

CzTask = Literal["clustering", "embedding", "batch_integration", "label_prediction"]

#: The seed of cz-benchmarks itself, so that its numbers are those of its own runs.
SEED = 42
#: Labels with fewer cells are left out of ``label_prediction``, as cz-benchmarks has it.
MIN_CLASS_SIZE = 10

_CLASSIFIERS = ("mean", "lr", "knn", "rf")
_FOLD_METRICS = ("accuracy", "f1", "precision", "recall", "auroc")
_PCA_COMPONENTS = 50

#: What each task gives, by our names: ``czb_``, its name in cz-benchmarks, and the classifier.
METRICS: dict[CzTask, tuple[str, ...]] = {
    "clustering": ("czb_adjusted_rand_index", "czb_normalized_mutual_info"),
    "embedding": ("czb_silhouette_score",),
    "batch_integration": ("czb_entropy_per_cell", "czb_batch_silhouette"),
    "label_prediction": tuple(
        f"czb_mean_fold_{metric}_{classifier}" for classifier in _CLASSIFIERS for metric in _FOLD_METRICS
    ),
}


def check_installed() -> None:
    """Make sure that the package is there, without importing it: that takes ten seconds.

    Raises
    ------
    ImportError
        If it is not; the message has the command that installs it.
    """
    if find_spec("czbenchmarks") is None:
        _package()


def library() -> str:
    """Return names and versions of what computes the metrics."""
    return "; ".join(f"{name} {version(name)}" for name in ("cz-benchmarks", "scib-metrics"))


def run_task(name: CzTask, vectors: np.ndarray, labels: np.ndarray, batches: np.ndarray | None) -> dict[str, float]:
    """Run a task with its own settings.

    Parameters
    ----------
    name
        The task.
    vectors
        What represents the cells, shape (n, H).
    labels
        Shape (n,), str.
    batches
        Shape (n,), str; only ``batch_integration`` needs them.

    Returns
    -------
    The metrics by our names, NaN where cz-benchmarks has none.
    """
    tasks = _package()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that stop early and folds without a class: its own choices
        found = _task(tasks, name).run(np.ascontiguousarray(vectors), _input(tasks, name, labels, batches))
    return {_name(result): float(result.value) for result in found}


def task_baseline(name: CzTask, counts: Any) -> np.ndarray:
    """Return what cz-benchmarks compares a task's scores with, made from the cells that are scored.

    Parameters
    ----------
    name
        The task. The baseline of ``label_prediction`` are the counts as they are, that of the others 50 principal
        components of 3000 variable genes.
    counts
        CSR (n, G).

    Returns
    -------
    Shape (n, P).
    """
    tasks = _package()
    made = _task(tasks, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy, about genes without counts
        if name == "label_prediction":
            return np.asarray(made.compute_baseline(counts))
        from czbenchmarks.tasks.task import PCABaselineInput

        own = PCABaselineInput(n_pcs=min(_PCA_COMPONENTS, min(counts.shape) - 1))
        return np.asarray(made.compute_baseline(counts, own))


def _package() -> Any:
    return require("czbenchmarks.tasks", extra="cz-benchmarks", why="benchmark 'cz_benchmarks'")


def _task(tasks: Any, name: CzTask) -> Any:
    by_name = {
        "clustering": tasks.ClusteringTask,
        "embedding": tasks.EmbeddingTask,
        "batch_integration": tasks.BatchIntegrationTask,
        "label_prediction": tasks.MetadataLabelPredictionTask,
    }
    return by_name[name](random_seed=SEED)


def _input(tasks: Any, name: CzTask, labels: np.ndarray, batches: np.ndarray | None) -> Any:
    import pandas as pd

    if name == "clustering":
        names = [f"cell{row}" for row in range(len(labels))]
        return tasks.ClusteringTaskInput(obs=pd.DataFrame({"label": labels}, index=names), input_labels=labels)
    if name == "embedding":
        return tasks.EmbeddingTaskInput(input_labels=labels)
    if name == "batch_integration":
        return tasks.BatchIntegrationTaskInput(labels=labels, batch_labels=batches)
    return tasks.MetadataLabelPredictionTaskInput(labels=pd.Series(labels), min_class_size=MIN_CLASS_SIZE)


def _name(result: Any) -> str:
    classifier = (result.params or {}).get("classifier", "")
    ending = f"_{'mean' if classifier.startswith('MEAN') else classifier}" if classifier else ""
    return f"czb_{result.metric_type.value}{ending}"
