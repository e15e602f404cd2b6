"""What a model gives for a cell depends on that cell alone."""

from __future__ import annotations

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.eval import embed as eval_embed
from tests.conftest import make_adata
from tests.test_tl import cells, embedding
from tests.test_workflows.ready_models import BINNED, COUNTS, labelling_model, ready_model


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return cells()


class TestNumbersDependOnTheCellAlone:
    """To the bit, on a CPU: nothing here has a tolerance."""

    MODELS = (
        pytest.param(partial(ready_model), id="ranks"),
        pytest.param(partial(ready_model, pooling="mean"), id="mean"),
        pytest.param(partial(ready_model, "scgpt", {**BINNED, "ties": "random", "max_genes": 12}), id="random draws"),
        pytest.param(partial(ready_model, "transcriptformer", COUNTS), id="causal"),
        pytest.param(partial(ready_model, "gene_pooling"), id="pooling"),
        pytest.param(partial(ready_model, "masked_autoencoder"), id="autoencoder"),
        pytest.param(labelling_model, id="scdiva"),
    )

    @pytest.mark.parametrize("made", MODELS)
    def test_whatever_the_batch_size_and_order(self, adata, made):
        model = made()
        expected = embedding(adata, model)
        for size in (1, 7):
            np.testing.assert_array_equal(embedding(adata, model, batch_size=size), expected)
        order = np.random.default_rng(3).permutation(60)
        np.testing.assert_array_equal(embedding(adata[order].copy(), model, batch_size=33), expected[order])
        np.testing.assert_array_equal(embedding(adata[7].copy(), model), expected[[7]])

    @pytest.mark.parametrize("made", MODELS[1:4])
    def test_whatever_the_number_of_threads(self, made):
        """Attention of very short cells on two threads is left out: see the page on using models."""
        genes = [f"ENSG{i:011d}" for i in range(1, 81)]
        model, threads = made(genes=genes, max_seq_len=96), torch.get_num_threads()
        adata = make_adata(16, 80)
        try:
            found = []
            for number in (1, 2):
                torch.set_num_threads(number)
                found.append(embedding(adata, model))
        finally:
            torch.set_num_threads(threads)
        np.testing.assert_array_equal(*found)

    def test_which_takes_batches_filled_up(self, adata, monkeypatch):
        """The tests above can fail: without this measure they do."""
        monkeypatch.setattr(eval_embed, "_LEAST_CELLS", 0)
        assert not np.array_equal(
            embedding(adata, labelling_model(), batch_size=1), embedding(adata, labelling_model())
        )

    @settings(max_examples=5)
    @given(st.integers(0, 10_000))
    def test_permuted_and_unknown_genes_and_other_cells_change_nothing(self, seed):
        rng = np.random.default_rng(seed)
        model = ready_model("scgpt", {**BINNED, "ties": "random", "max_genes": 12})
        adata = cells(9, seed=seed % 7)
        expected = embedding(adata, model)
        unknown = ad.AnnData(
            sp.csr_matrix(rng.poisson(1.0, (9, 4)).astype(np.float32)),
            adata.obs[[]],
            pd.DataFrame(index=[f"ENSG9999999999{i}" for i in range(4)]),
        )
        wider = ad.concat([adata, unknown], axis=1)[:, rng.permutation(34)].copy()
        np.testing.assert_array_equal(embedding(wider, model), expected)
        others = cells(int(rng.integers(1, 40)), seed=seed)
        more = ad.concat([others, adata], index_unique="-")
        np.testing.assert_array_equal(embedding(more, model, batch_size=8)[-9:], expected)
