"""The backend scib-metrics gives the numbers of ours; .ci/full installs scib-metrics and scanpy for these tests."""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from scmodelforge.eval.embedding.catalogue import METRICS
from scmodelforge.eval.embedding.graph import umap_connectivities
from scmodelforge.eval.neighbors import nearest_neighbors
from tests.test_eval.test_embedding.test_score import inputs_of, scored

pytestmark = pytest.mark.filterwarnings("default")  # those of jax and of what it imports are not ours


@pytest.fixture(scope="module", autouse=True)
def _umap():
    """Let scanpy and scib-metrics have UMAP, which other tests do without."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.modules.get("umap", True) is None:
            patch.delitem(sys.modules, "umap")
        yield


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    codes, batches = rng.integers(0, 3, 240), rng.integers(0, 3, 240)
    batches[codes == 2] %= 2  # one label is isolated
    points = 1.5 * np.eye(3, 8)[codes] + 0.5 * np.eye(3, 8)[batches] + rng.normal(size=(240, 8))
    return inputs_of(points, [f"type{code}" for code in codes], [f"b{batch}" for batch in batches])


def test_gives_the_same_numbers(inputs):
    ours, theirs = scored(inputs, METRICS), scored(inputs, METRICS, backend="scib-metrics")
    given = {name for name, record in theirs.items() if record.value is not None}
    assert {"bras", "ilisi_knn", "kbet_k50", "pcr_comparison", "graph_connectivity_directed"} < given
    for name in given:
        depends_on_draws = "kmeans" in name or "leiden" in name or name == "kbet_per_label"
        tolerance = 0.1 if depends_on_draws else 1e-4
        assert theirs[name].value == pytest.approx(ours[name].value, abs=tolerance), name
        assert "scib-metrics" in theirs[name].library
        assert theirs[name].params["backend"] == "scib-metrics"


def test_names_what_it_does_not_compute(inputs):
    record = scored(inputs, ["clisi_graph"], backend="scib-metrics")["clisi_graph"]
    assert record.value is None
    assert record.skipped_reason == "scib-metrics does not compute it"


def test_the_graph_is_that_of_scanpy(inputs):
    points = inputs.heldout.embeddings
    cells = ad.AnnData(obsm={"X": points})
    sc.pp.neighbors(cells, n_neighbors=15, use_rep="X", random_state=0)
    theirs = cells.obsp["connectivities"]
    ours = umap_connectivities(nearest_neighbors(points, 15))
    assert ours.nnz == theirs.nnz
    assert abs(ours - theirs).max() < 1e-4
