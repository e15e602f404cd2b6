"""Edges of bins are fitted to the training cells as the model gets them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scmodelforge.config.schema import PreprocessingConfig, RunConfig
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig
from scmodelforge.workflows.prepare import prepare_data
from tests.conftest import make_adata


@pytest.mark.parametrize("log1p", [True, False])
def test_after_normalisation_and_logarithm(tmp_path, log1p):
    path = tmp_path / "cells.h5ad"
    make_adata(60, 30).write_h5ad(path)
    preprocessing = PreprocessingConfig(normalize="library_size", target_sum=1000.0, log1p=log1p)
    data = LocalDataConfig(paths=[str(path)], gene_vocab="from_data", preprocessing=preprocessing)
    data.split.by, data.split.validation_fraction = "cells", 0.25
    tokenizer = BinnedExpressionConfig(strategy="binned_expression", method="fixed", n_bins=6)
    prepared = prepare_data(RunConfig(data=data, tokenizer=tokenizer))
    counts = ad.read_h5ad(path).X.toarray()[prepared.split.train].astype(np.float64)
    values = counts / counts.sum(axis=1, keepdims=True) * 1000
    values = np.log1p(values) if log1p else values
    expected = np.quantile(values[values > 0], np.arange(5) / 5)
    np.testing.assert_allclose(prepared.tokenizer.edges, expected, rtol=1e-5)
    assert prepared.tokenizer.centres.scale == "log1p_cp10k"
