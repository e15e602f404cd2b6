"""Each metric as a function of a scene, with what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from scmodelforge.eval.biology import sklearn_version
from scmodelforge.eval.embedding.cell_scores import CellScores
from scmodelforge.eval.embedding.clustering import RESOLUTIONS, Flavour
from scmodelforge.eval.embedding.connectivity import largest_shares
from scmodelforge.eval.embedding.graph import directed_graph
from scmodelforge.eval.embedding.isolated import best_f1, isolated_labels
from scmodelforge.eval.embedding.kbet import FEWEST_CELLS, KBET_NEIGHBORS, accepted_cells, accepted_within_labels
from scmodelforge.eval.embedding.lisi import LISI_NEIGHBORS, lisi, scaled_batch_lisi, scaled_label_lisi
from scmodelforge.eval.embedding.pcr import batch_variance
from scmodelforge.eval.embedding.pcr import pcr_comparison as compare_variance
from scmodelforge.eval.embedding.scene import GRAPH_NEIGHBORS, Scene
from scmodelforge.eval.embedding.silhouette import Distance, Others, batch_silhouette
from scmodelforge.eval.metrics import (
    MANY_RESAMPLES,
    adjusted_rand_index,
    bootstrap_tables,
    count_table,
    interval,
    normalized_mutual_information,
)

__all__ = ["Score", "batch_scores", "clusters", "connectivity", "isolated", "isolated_f1", "kbet_all"]
__all__ += ["kbet_labels", "label_silhouette", "lisi_score", "variance"]

_SCORES = {"nmi": normalized_mutual_information, "ari": adjusted_rand_index}


@dataclass
class Score:
    """One metric of one scene.

    Attributes
    ----------
    value
        The score, or ``None``; ``reason`` then says why.
    reason
        Why there is no score, or what was left out.
    params
        Settings and findings for the record.
    cells
        The values the score is made of, if it is a mean or median over cells.
    interval
        95 % interval over cells, if it is not made of these values.
    n
        Cells scored, if not all.
    library
        What computed it.
    """

    value: float | None
    reason: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    cells: CellScores | None = None
    interval: list[float] | None = None
    n: int | None = None
    library: str = f"numpy {np.__version__}, scipy {scipy.__version__}"

    @classmethod
    def of_cells(cls, cells: CellScores, **others: Any) -> Score:
        """Return the score of values of cells."""
        return cls(cells.score, cells=cells, n=len(cells.values), **others)


def clusters(scene: Scene, *, score: str, by: str) -> Score:
    """Compare the labels with a clustering; of several Leiden clusterings, that with the highest NMI counts."""
    num_labels = len(scene.label_names)
    params: dict[str, Any] = {}
    if by == "kmeans":
        if num_labels == len(scene):
            return Score(None, "every cell has a label of its own, so as many clusters as labels agree by themselves")
        found = [scene.kmeans]
        params = {"k": num_labels, "n_init": scene.kmeans_starts, "init": "k-means++"}
        library = sklearn_version()
    else:
        flavour: Flavour = "scib" if by == "leiden_scib" else "scib_metrics"
        tried = (1.0,) if by == "leiden_res1" else RESOLUTIONS
        found, library = scene.leiden(flavour, tried), _leiden_version(flavour)
        params = {"k": GRAPH_NEIGHBORS, "flavour": flavour, "resolutions": list(tried)}
    tables = [count_table(scene.labels, each, (num_labels, int(each.max()) + 1)) for each in found]
    best = int(np.argmax([normalized_mutual_information(table) for table in tables]))
    if by != "kmeans":
        params["resolution"] = params["resolutions"][best]
    value = float(_SCORES[score](tables[best]))
    draws = _SCORES[score](
        bootstrap_tables(tables[best], seed=scene.seed, purpose="clusters", resamples=MANY_RESAMPLES)
    )
    params |= {"n_found": len(np.unique(found[best])), "num_labels": num_labels, "resamples": MANY_RESAMPLES}
    return Score(value, params=params, interval=interval(draws, around=value), library=library)


def label_silhouette(scene: Scene) -> Score:
    """(silhouette of labels + 1) / 2, the mean over cells."""
    params = {"distance": "euclidean", "scaled": "(s + 1) / 2", "num_labels": len(scene.label_names)}
    return Score.of_cells(CellScores(scene.label_silhouettes, np.arange(len(scene))), params=params)


def isolated(scene: Scene, *, convention: str) -> Score:
    """(silhouette + 1) / 2 of the labels that the fewest batches have, the mean over labels of their means."""
    codes, params, reason = _isolated(scene, convention)
    if reason is not None:
        return Score(None, reason, params)
    rows = np.flatnonzero(np.isin(scene.labels, codes))
    cells = CellScores(scene.label_silhouettes[rows], rows, scene.labels[rows])
    return Score.of_cells(cells, params={**params, "distance": "euclidean"}, reason=_only_isolated(scene, rows))


def isolated_f1(scene: Scene) -> Score:
    """Best F1 of a Leiden cluster for each label that the fewest batches have, the mean over these labels."""
    codes, params, reason = _isolated(scene, "scib")
    if reason is not None:
        return Score(None, reason, params)
    found = scene.leiden("scib")
    scores = [best_f1(scene.labels, int(code), found) for code in codes]
    params |= {"k": GRAPH_NEIGHBORS, "flavour": "scib", "resolutions": list(RESOLUTIONS)}
    return Score(float(np.mean(scores)), params=params, library=_leiden_version("scib"))


def batch_scores(scene: Scene, *, distance: Distance, others: Others) -> Score:
    """1 - |silhouette of batches| within labels, the mean over labels of their means."""
    found = batch_silhouette(scene.embeddings, scene.labels, _batches(scene), distance=distance, others=others)
    left_out = [str(scene.label_names[code]) for code in found.left_out]
    params = {
        "distance": distance,
        "others": others,
        "num_labels": len(scene.label_names) - len(left_out),
        "labels_left_out": left_out,
        "num_batches": len(scene.batch_names),
    }
    if len(found.rows) == 0:
        return Score(None, "no label has cells of several batches", params)
    reason = f"labels without several batches of several cells: {', '.join(left_out)}" if left_out else None
    return Score.of_cells(CellScores(found.scores, found.rows, found.labels), params=params, reason=reason)


def lisi_score(scene: Scene, *, of: str, graph: bool) -> Score:
    """Scaled median of the number of batches or labels in a cell's neighbourhood."""
    weights, indices = scene.graph_neighborhood if graph else scene.lisi_neighborhood
    codes, names = (_batches(scene), scene.batch_names) if of == "batch" else (scene.labels, scene.label_names)
    values = lisi(weights, indices, codes, len(names))
    counted = "num_batches" if of == "batch" else "num_labels"
    params: dict[str, Any] = {"k": LISI_NEIGHBORS, "perplexity": LISI_NEIGHBORS // 3, counted: len(names)}
    if graph:
        is_cut_off = indices[:, -1] < 0
        values[is_cut_off] = 1.0  # as scib has it
        params |= {"graph_k": GRAPH_NEIGHBORS, "cells_with_fewer_neighbors": int(is_cut_off.sum())}
    values = np.where(np.isnan(values), 1.0, values)
    scaled = scaled_batch_lisi(values, len(names)) if of == "batch" else scaled_label_lisi(values, len(names))
    return Score.of_cells(CellScores(scaled, np.arange(len(scene)), is_median=True), params=params)


def connectivity(scene: Scene, *, directed: bool) -> Score:
    """Share of each label's cells in its largest connected piece, the mean over labels."""
    graph = directed_graph(scene.nearest(GRAPH_NEIGHBORS)) if directed else scene.graph()
    shares = largest_shares(graph, scene.labels, len(scene.label_names))
    edges = "directed nearest neighbours" if directed else "symmetric UMAP connectivities"
    return Score(float(shares.mean()), params={"k": GRAPH_NEIGHBORS, "graph": edges, "num_labels": len(shares)})


def kbet_all(scene: Scene) -> Score:
    """Share of cells whose neighbours' batches are like those of all cells."""
    accepted = accepted_cells(scene.nearest(KBET_NEIGHBORS).indices, _batches(scene))
    params = {"k": KBET_NEIGHBORS, "alpha": 0.05, "num_batches": len(scene.batch_names)}
    return Score.of_cells(CellScores(accepted, np.arange(len(scene))), params=params)


def kbet_labels(scene: Scene) -> Score:
    """Share of each label's cells whose neighbours within it are like the label's batches, the mean over labels."""
    found = accepted_within_labels(scene.graph(KBET_NEIGHBORS), scene.labels, _batches(scene))
    left_out, broken = ([str(scene.label_names[code]) for code in each] for each in (found.left_out, found.broken))
    params = {"graph_k": KBET_NEIGHBORS, "alpha": 0.05, "labels_left_out": left_out, "labels_in_pieces": broken}
    if len(found.rows) == 0:
        return Score(None, "no label has 10 cells of several batches", params)
    sizes = np.bincount(scene.labels, minlength=len(scene.label_names))
    few = [f"{scene.label_names[code]} ({sizes[code]})" for code in found.left_out if sizes[code] < FEWEST_CELLS]
    alone = [str(scene.label_names[code]) for code in found.left_out if sizes[code] >= FEWEST_CELLS]
    reasons = [f"labels with fewer than {FEWEST_CELLS} cells: {', '.join(few)}"] if few else []
    reasons += [f"labels of one batch: {', '.join(alone)}"] if alone else []
    outside = int(np.isin(scene.labels, found.left_out, invert=True).sum()) - len(found.rows)
    reasons += [f"{outside:,} cells outside the large pieces of their label's graph"] if outside else []
    reason = "; ".join(reasons) or None
    return Score.of_cells(CellScores(found.accepted, found.rows, found.labels), params=params, reason=reason)


def variance(scene: Scene) -> Score:
    """Share of the variance between batches that integration removed."""
    assert scene.reference is not None
    batches = _batches(scene)
    before, after = batch_variance(scene.reference, batches), batch_variance(scene.embeddings, batches)
    params = {"between_batches_before": before, "between_batches": after, "num_batches": len(scene.batch_names)}
    if not before > 0:
        return Score(None, "the reference has no variance between batches", {"num_batches": len(scene.batch_names)})
    return Score(compare_variance(before, after), params=params)


def _batches(scene: Scene) -> np.ndarray:
    assert scene.batches is not None
    return scene.batches


def _isolated(scene: Scene, convention: str) -> tuple[np.ndarray, dict[str, Any], str | None]:
    codes, are_fewer = isolated_labels(scene.labels, _batches(scene))
    params = {"convention": convention, "isolated_labels": [str(scene.label_names[code]) for code in codes]}
    if convention == "scib" and not are_fewer:
        return codes, params, "every label is in every batch, so none is isolated"
    return codes, params, None


def _only_isolated(scene: Scene, rows: Sequence[int] | np.ndarray) -> str | None:
    return "cells of labels that are not isolated" if len(rows) < len(scene) else None


def _leiden_version(flavour: Flavour) -> str:
    from importlib.metadata import version

    names = ("igraph",) if flavour == "scib_metrics" else ("igraph", "leidenalg")
    return ", ".join(f"{name} {version(name)}" for name in names)
