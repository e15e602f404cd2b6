"""Network scores of the golden file: scikit-learn 1.9.1, numpy 2.4.6, by the protocol written in it.

The networks may not be copied, so they lie beside the goldens, in ``data``.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge.eval.networks.config import NetworkConfig
from scmodelforge.eval.networks.edges import read_edges
from scmodelforge.eval.networks.matching import match_edges
from scmodelforge.eval.networks.score_matrices import cosine_scores, pearson_scores
from scmodelforge.eval.networks.scores import rank_pairs
from tests.parity.golden import golden_folder, needs

FOLDER = golden_folder("eval")
DATA = FOLDER.parents[1] / "data"
FILES = {
    "dorothea_ABC": "tf_target_dorothea_ABC_human.tsv.gz",
    "trrust_v2": "tf_target_trrust_v2_human.tsv.gz",
    "chipseq_remap": "tf_target_chipseq_remap_human_by_tf.tsv.gz",
}

pytestmark = [needs(FOLDER), needs(DATA)]


def inputs():
    return np.load(FOLDER / "grn_pbmc3batch_inputs.npz")


@pytest.mark.parametrize("name", FILES)
def test_scores_of_a_network_are_those_of_the_golden_file(name):
    expected = json.loads((FOLDER / "grn_pbmc3batch_expected.json").read_text())["results"][name]
    given = inputs()
    network = match_edges(read_edges(NetworkConfig(path=str(DATA / FILES[name]))), given["genes"].tolist(), exact=True)
    row_of = {tf: row for row, tf in enumerate(given["tfs"].tolist())}
    rows = [row_of[tf] for tf in network.tf_names]
    scores = {
        "abs_pearson": given["abs_pearson"][rows],
        "svd20_cosine": cosine_scores(given["gene_svd20"], network.tfs),
        "random": given["random"][rows],
    }
    assert set(scores) == set(expected)
    for score, matrix in scores.items():
        pairs, known = rank_pairs(matrix, network), expected[score]
        assert (len(network.tfs), len(pairs.rows)) == (known["n_tfs"], known["n_candidates"])
        assert int(network.truth.sum()) == known["n_true"]
        found = pairs.scores()
        # The cosines were computed in single precision, here in double: a few pairs change places.
        tolerance = {"rtol": 1e-4 if score == "svd20_cosine" else 1e-7}
        for metric in ("auroc", "auprc", "auprc_ratio", "epr"):
            np.testing.assert_allclose(found[metric], known[metric], **tolerance, err_msg=f"{score} {metric}")


def test_correlations_over_cells_are_those_of_the_golden_file():
    import anndata as ad
    import scipy.sparse as sp

    given, cells = inputs(), ad.read_h5ad(DATA / "pbmc_3batch_counts.h5ad")
    genes = cells.var_names.tolist()
    of_genes = [genes.index(gene) for gene in given["genes"]]
    found = pearson_scores(sp.csr_matrix(cells.X), np.array([genes.index(tf) for tf in given["tfs"]]))
    np.testing.assert_allclose(found[:, of_genes], given["abs_pearson"], atol=2e-6)
