"""How well an embedding keeps labels together: clusterings and the label silhouette, on held-out cells."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import mix
from scmodelforge.eval.base import BenchmarkInputs, Record
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.metrics import (
    RESAMPLES,
    adjusted_rand_index,
    bootstrap_mean,
    bootstrap_tables,
    count_table,
    interval,
    normalized_mutual_information,
    silhouette_samples,
)

__all__ = ["biology_records", "column_of", "labelled", "sklearn_seed", "sklearn_version"]

_METRICS = ("nmi_kmeans", "ari_kmeans", "silhouette_label")


def biology_records(benchmark: str, inputs: BenchmarkInputs, *, n_init: int) -> list[Record]:
    """Score the held-out cells by their labels.

    ``nmi_kmeans`` and ``ari_kmeans`` compare the labels with a k-means clustering into as many clusters as there are
    labels (k-means++, the best of ``n_init`` starts). ``silhouette_label`` is (mean silhouette + 1) / 2 with Euclidean
    distances (Luecken et al. 2022, doi:10.1038/s41592-021-01336-8). All are 0 to 1 except ARI, which may be negative.

    Parameters
    ----------
    benchmark
        Name in the records.
    inputs
        The cells. Those without a label are left out and counted.
    n_init
        Starts of k-means.

    Raises
    ------
    DataError
        If there is no label column or no labelled cell.
    """
    cells, codes, names = labelled(benchmark, inputs)
    shared: dict[str, Any] = {"n_skipped": len(inputs.heldout) - len(cells)}
    if shared["n_skipped"]:
        shared["skipped_reason"] = "cells without a label"
    reason = None
    if len(names) < 2:
        reason = f"all held-out cells have the label '{names[0]}'; two labels are needed"
    elif cells.is_constant:
        reason = "all held-out cells have the same embedding"
    if reason is not None:
        skipped = {"n_skipped": len(inputs.heldout), "skipped_reason": reason}
        return [inputs.record(benchmark, metric, None, library=sklearn_version(), **skipped) for metric in _METRICS]
    params = {"num_labels": len(names), "seed": inputs.seed, "resamples": RESAMPLES}
    params["num_duplicates"] = cells.num_duplicates
    shared["n"] = len(cells)
    return [
        *_clustering(benchmark, inputs, cells, codes, n_init=n_init, params=params, shared=shared),
        _silhouette(benchmark, inputs, cells, codes, params=params, shared=shared),
    ]


def labelled(benchmark: str, inputs: BenchmarkInputs) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Return the held-out cells that have a label, in an order of their own, their codes and the label names."""
    cells = inputs.heldout.in_order()
    labels = column_of(cells, "label", benchmark, inputs)
    has_label = labels != ""
    if not has_label.any():
        msg = f"benchmark '{benchmark}': none of the {len(cells):,} held-out cells of '{inputs.dataset}' has a label."
        raise DataError(msg)
    names, codes = np.unique(labels[has_label], return_inverse=True)
    return cells.select(has_label), codes, names


def column_of(cells: Cells, column: str, benchmark: str, inputs: BenchmarkInputs) -> np.ndarray:
    """Return the labels or batches of cells.

    Raises
    ------
    DataError
        If there is no such column.
    """
    found = cells.labels if column == "label" else cells.batches
    if found is None:
        msg = (
            f"benchmark '{benchmark}' needs a {column} for the cells of '{inputs.dataset}'; "
            f"set data.{column}_column (or '{column}' of the benchmark) to an obs column."
        )
        raise DataError(msg)
    return found


def sklearn_seed(seed: int, purpose: str) -> int:
    """Return a seed that scikit-learn takes (below 2**32)."""
    return int(mix(seed, purpose)) % 2**32


@cache
def sklearn_version() -> str:
    """Return the name and version of scikit-learn, for records."""
    from importlib.metadata import version

    return f"scikit-learn {version('scikit-learn')}"


def _clustering(
    benchmark: str,
    inputs: BenchmarkInputs,
    cells: Cells,
    codes: np.ndarray,
    *,
    n_init: int,
    params: dict[str, Any],
    shared: dict[str, Any],
) -> list[Record]:
    num_labels = params["num_labels"]
    clusters = _kmeans(cells.embeddings, num_labels, n_init=n_init, seed=sklearn_seed(inputs.seed, "kmeans"))
    table = count_table(codes, clusters, (num_labels, num_labels))
    draws = bootstrap_tables(table, seed=inputs.seed, purpose="clusters")
    params = {**params, "k": num_labels, "n_init": n_init, "init": "k-means++", "n_found": len(np.unique(clusters))}
    return [
        inputs.record(
            benchmark,
            metric,
            float(score(table)),
            interval=interval(score(draws), around=float(score(table))),
            library=sklearn_version(),
            params=dict(params),
            **shared,
        )
        for metric, score in (("nmi_kmeans", normalized_mutual_information), ("ari_kmeans", adjusted_rand_index))
    ]


def _silhouette(
    benchmark: str,
    inputs: BenchmarkInputs,
    cells: Cells,
    codes: np.ndarray,
    *,
    params: dict[str, Any],
    shared: dict[str, Any],
) -> Record:
    scores = (silhouette_samples(cells.embeddings, codes) + 1) / 2
    draws = bootstrap_mean(scores, seed=inputs.seed, purpose="silhouette label")
    return inputs.record(
        benchmark,
        "silhouette_label",
        float(scores.mean()),
        interval=interval(draws),
        library=f"numpy {np.__version__}",
        params={**params, "distance": "euclidean", "scaled": "(s + 1) / 2"},
        **shared,
    )


def _kmeans(embeddings: np.ndarray, k: int, *, n_init: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = KMeans(k, init="k-means++", n_init=n_init, random_state=seed)
    # Fewer different points than clusters: scikit-learn warns and gives fewer clusters; params["n_found"] says so.
    # One thread: with several, sums are added up in the order the threads finish, and ties may fall otherwise.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit_predict(embeddings.astype(np.float64)))
