"""Equal to scib-metrics 0.5.10 and scib 1.1.7 on three data sets; versions and tolerances stand with the figures."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, get_benchmark
from scmodelforge.eval.embedding.catalogue import AGGREGATES, METRICS
from scmodelforge.eval.embedding.clustering import kmeans
from tests.parity.golden import golden_folder, needs

FOLDER = golden_folder("eval")
EMBEDDINGS = [
    ("scib_pbmc3batch", "X_pca"),
    ("scib_pbmc3batch", "X_harmony"),
    ("scib_pbmc3batch", "X_random"),
    ("scib_celllines", "X_pca"),
    ("scib_celllines", "X_harmony"),
    ("scib_pbmc68k", "X_pca"),
    ("scib_pbmc68k", "X_umap"),
]
EXACT = {
    "silhouette_label": "silhouette_label",
    "silhouette_batch": "silhouette_batch",
    "bras": "bras",
    "bras_furthest": "bras_furthest",
    "isolated_labels_asw": "isolated_labels",
    "graph_connectivity_directed": "graph_connectivity_k15",
    "kbet_k50": "kbet_k50",
    "pcr_comparison": "pcr_comparison",
}
OF_SCIB = {
    "silhouette_label": "asw_label",
    "silhouette_batch": "asw_batch",
    "graph_connectivity_scib": "graph_connectivity",
    "isolated_labels_asw_scib": "isolated_labels_asw",
    "pcr_comparison": "pcr_comparison",
}
CHEAP = [name for name, metric in METRICS.items() if metric.leiden is None]

pytestmark = needs(FOLDER)


def expected(name: str, embedding: str) -> dict:
    return json.loads((FOLDER / f"{name}_expected.json").read_text())["results"][embedding]


@cache
def cells_of(name: str) -> dict[str, np.ndarray]:
    if name != "scib_pbmc68k":
        with np.load(FOLDER / f"{name}_inputs.npz", allow_pickle=False) as found:
            return dict(found)
    cells = pytest.importorskip("scanpy").datasets.pbmc68k_reduced()
    columns = {"label": cells.obs["bulk_labels"].astype(str), "batch": cells.obs["phase"].astype(str)}
    return {**{key: cells.obsm[key] for key in ("X_pca", "X_umap")}, **{k: v.to_numpy() for k, v in columns.items()}}


@cache
def inputs(name: str, embedding: str) -> BenchmarkInputs:
    found = cells_of(name)
    labels, batches = found["label"].astype(str), found["batch"].astype(str)
    heldout = Cells(found[embedding], labels=labels, batches=batches, positions=np.arange(len(labels)))
    return BenchmarkInputs("cells", heldout.select(np.arange(0)), heldout, reference=found["X_pca"])


@cache
def ours(name: str, embedding: str, metrics: tuple[str, ...] = (*CHEAP, *AGGREGATES)) -> dict[str, Record]:
    benchmark = get_benchmark("batch_integration")
    records = benchmark(benchmark.config_class(metrics=list(metrics))).run(inputs(name, embedding))
    return {record.metric: record for record in records}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "embedding"), EMBEDDINGS)
class TestScores:
    def test_are_those_of_scib_metrics(self, name, embedding):
        found, theirs = ours(name, embedding), expected(name, embedding)
        for metric, key in EXACT.items():
            assert found[metric].value == pytest.approx(theirs[key], abs=1e-4), metric
        for metric, key in {"ilisi_knn": "ilisi_knn_k90", "clisi_knn": "clisi_knn_k90"}.items():
            assert found[metric].value == pytest.approx(theirs[key], abs=1e-3), metric

    def test_are_those_of_scib(self, name, embedding):
        found, theirs = ours(name, embedding), expected(name, embedding)["scib_official"]
        for metric, key in OF_SCIB.items():
            assert found[metric].value == pytest.approx(theirs[key], abs=1e-4), metric
        for metric in ("ilisi_graph", "clisi_graph"):
            assert found[metric].value == pytest.approx(theirs[metric], abs=1e-3), metric

    def test_kbet_within_labels_is_near(self, name, embedding):
        # Theirs looks neighbours up approximately, and uses fewer components after a small label.
        theirs = expected(name, embedding)["kbet_per_label_k50"]
        assert ours(name, embedding)["kbet_per_label"].value == pytest.approx(theirs, abs=0.05)

    def test_kmeans_is_near(self, name, embedding):
        theirs = expected(name, embedding)["nmi_ari_kmeans"]
        assert ours(name, embedding)["nmi_kmeans"].value == pytest.approx(theirs["nmi"], abs=0.05)
        # One start may end in another clustering than the tightest of ten, and ARI shows it most.
        assert ours(name, embedding)["ari_kmeans"].value == pytest.approx(theirs["ari"], abs=0.1)

    def test_kmeans_from_one_start_is_theirs_for_some_seed(self, name, embedding):
        theirs, cells = expected(name, embedding)["nmi_ari_kmeans"], cells_of(name)
        labels, k = cells["label"], len(np.unique(cells["label"]))
        distances = []
        for seed in range(20):
            clusters = kmeans(cells[embedding], k, starts=1, seed=seed)
            nmi, ari = normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)
            distances.append(max(abs(nmi - theirs["nmi"]), abs(ari - theirs["ari"])))
        assert min(distances) < 0.02


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("leidenalg"), reason="needs the extra 'leiden'")
@pytest.mark.parametrize("embedding", ["X_pca", "X_harmony", "X_random"])
def test_leiden_clusterings_are_near(embedding):
    metrics = tuple(name for name, metric in METRICS.items() if metric.leiden)
    found, theirs = ours("scib_pbmc3batch", embedding, metrics), expected("scib_pbmc3batch", embedding)
    of_scib = theirs["scib_official"]
    pairs = {
        "leiden_scib_metrics": theirs["nmi_ari_leiden_opt_k15"],
        "leiden_res1": theirs["nmi_ari_leiden_res1_k15"],
        "leiden_scib": of_scib["nmi_ari_leiden_opt"],
    }
    for name, pair in pairs.items():
        assert found[f"nmi_{name}"].value == pytest.approx(pair["nmi"], abs=0.05), name
        assert found[f"ari_{name}"].value == pytest.approx(pair["ari"], abs=0.1), name
    assert found["isolated_labels_f1"].value == pytest.approx(of_scib["isolated_labels_f1"], abs=0.02)


@pytest.mark.parametrize("which", ["label", "batch"])
def test_lisi_of_single_cells_is_theirs(which):
    from scmodelforge.eval.embedding.lisi import lisi, neighbor_weights
    from scmodelforge.eval.neighbors import nearest_neighbors

    found = cells_of("scib_pbmc3batch")
    near = nearest_neighbors(found["X_pca"], 90)
    names, codes = np.unique(found[which].astype(str), return_inverse=True)
    values = lisi(neighbor_weights(near), near.indices, codes, len(names))
    theirs = expected("scib_pbmc3batch", "X_pca")[f"lisi_knn_{which}_first10_k90"]
    np.testing.assert_allclose(values[:10], theirs, atol=1e-3)
