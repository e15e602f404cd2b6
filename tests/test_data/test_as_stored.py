"""Values and tables of a file in the types they are stored in."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from tests.test_data.h5ad_files import open_files, write


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(["b", "a", None, "b"], categories=["b", "unused", "a"], ordered=True),
            "cluster": pd.Categorical([3, 1, 3, None]),
            "count": np.arange(4, dtype=np.int16),
            "score": np.array([0.5, np.nan, 1, 2], np.float32),
            "flag": [True, False, True, True],
            "whole": pd.array([1, None, 3, 4], dtype="Int32"),
            "maybe": pd.array([True, None, False, True], dtype="boolean"),
            "text": ["w", "x", "y", "z"],
        },
        index=list("pqrs"),
    )
    values = sp.csr_matrix(rng.random((4, 6)) * (rng.random((4, 6)) < 0.5))
    return ad.AnnData(values, obs, pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(6)]))


class TestColumns:
    def test_each_kind_keeps_its_type_and_values(self, tmp_path, adata):
        stored = open_files(write(tmp_path, adata)).stored(0)
        assert stored.columns("obs") == list(adata.obs)
        for name in adata.obs:
            found, expected = stored.column("obs", name), adata.obs[name]
            if name not in ("type", "text"):  # a text comes as a Categorical, without categories no cell has
                assert found.dtype == expected.dtype
            assert np.array_equal(pd.isna(found), pd.isna(expected))
            kept = ~pd.isna(expected)
            assert list(np.asarray(found)[kept]) == list(np.asarray(expected)[kept])
        assert list(stored.column("obs", "type").categories) == ["b", "a"]
        assert stored.column("obs", "type").ordered

    def test_categories_that_repeat_are_damage(self, tmp_path, adata):
        path = write(tmp_path, adata)
        with h5py.File(path, "r+") as file:
            file["obs/cluster/categories"][:] = 1
        with pytest.raises(DataError, match=r"cells\.h5ad: obs: column 'cluster' is damaged \(.*unique"):
            open_files(path).stored(0).column("obs", "cluster")


class TestValues:
    @pytest.mark.parametrize("is_dense", [True, False])
    def test_rows_keep_what_float32_does_not_hold(self, tmp_path, adata, is_dense):
        expected = adata.X.toarray()
        if is_dense:
            adata.X = expected
        stored = open_files(write(tmp_path, adata)).stored(0)
        data, indices, indptr = stored.read(1, 4)
        assert stored.dtype == data.dtype == np.float64
        assert np.array_equal(sp.csr_matrix((data, indices, indptr), shape=(3, 6)).toarray(), expected[1:])

    def test_row_lengths_are_known_of_sparse_rows_only(self, tmp_path, adata):
        lengths = np.diff(adata.X.indptr)
        assert np.array_equal(open_files(write(tmp_path, adata)).stored(0).row_lengths, lengths)
        adata.X = adata.X.toarray()
        assert open_files(write(tmp_path, adata, "dense.h5ad")).stored(0).row_lengths is None

    @pytest.mark.parametrize(("compression", "packing"), [(None, "none"), ("gzip", "gzip"), ("lzf", "lzf")])
    def test_packing_is_the_compression(self, tmp_path, adata, compression, packing):
        assert open_files(write(tmp_path, adata, compression=compression)).stored(0).packing == packing
        adata.X = adata.X.toarray()
        assert open_files(write(tmp_path, adata, "dense.h5ad")).stored(0).packing == "dense"
