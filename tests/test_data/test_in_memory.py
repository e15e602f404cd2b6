"""An AnnData object is read as the file that it is written to: the same cells, tables and refusals."""

from __future__ import annotations

import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files


def with_columns() -> ad.AnnData:
    adata = make_adata(50, 20)
    adata.obs["text"] = ["b", "a", None, "c", "a"] * 10
    adata.obs["whole"] = np.arange(50) % 3
    adata.obs["broken"] = np.where(np.arange(50) % 4, np.arange(50) / 2, np.nan)
    adata.obs["flag"] = np.arange(50) % 2 == 0
    adata.obs["nullable"] = pd.array([1, None, 3, 4, 5] * 10, dtype="Int64")
    adata.obs["sizes"] = pd.Categorical([3, 1, 2, 1, 3] * 10, categories=[3, 2, 1, 7])
    return adata


@pytest.fixture(params=["in memory", "backed", "view", "part of backed"])
def pair(request, tmp_path):
    """Return an object, and the file that it is as."""
    adata = with_columns()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    rows, genes = np.array([40, 3, 17, 48, 18, 19]), np.array([4, *range(15, 2, -2)])
    if request.param in ("view", "part of backed"):
        adata[rows, genes].copy().write_h5ad(tmp_path / "some.h5ad")
    whole = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r" if "backed" in request.param else None)
    name = "some.h5ad" if request.param in ("view", "part of backed") else "cells.h5ad"
    return (whole if name == "cells.h5ad" else whole[rows, genes]), open_files(tmp_path / name)


def assert_same_cells(first, second) -> None:
    np.testing.assert_array_equal(first.indptr, second.indptr)
    for name in ("data", "indices", "positions"):
        own, other = getattr(first, name), getattr(second, name)
        assert own.dtype == other.dtype
        if name == "positions":
            np.testing.assert_array_equal(own, other)
    shape = (len(first), len(first.panel.gene_ids))
    dense = [sp.csr_matrix((each.data, each.indices, each.indptr), shape).toarray() for each in (first, second)]
    np.testing.assert_array_equal(*dense)


def test_cells_and_tables_are_those_of_the_file(pair):
    source, file = AnnDataSource(pair[0]), pair[1]
    assert source.file_sizes == file.file_sizes
    assert source.panels[0].gene_ids.tolist() == file.panels[0].gene_ids.tolist()
    assert source.kind(0) == file.kind(0)
    assert source.obs_columns == file.obs_columns
    assert list(source.obs_names()) == list(file.obs_names())
    for column in source.obs_columns:
        codes, categories = source.obs(column)
        expected = file.obs(column)
        named = [np.array([*names, None], dtype=object)[own] for own, names in ((codes, categories), expected)]
        assert named[0].tolist() == named[1].tolist(), column
        assert sorted(categories) == sorted(expected[1])
        numbers = source.obs_numbers(column), file.obs_numbers(column)
        assert (numbers[0] is None) == (numbers[1] is None), column
        if numbers[0] is not None:
            np.testing.assert_array_equal(*numbers)
    size = source.file_sizes[0]
    assert_same_cells(source.read(RowRange(0, 1, size)), file.read(RowRange(0, 1, size)))
    some = np.array([4, 0, 2])
    assert_same_cells(source.read_rows(0, some), file.read_rows(0, some))
    with pytest.raises(DataError, match="adata: obs has no column 'donor'"):
        source.obs("donor")


def test_what_is_done_to_cells_that_were_read_does_not_reach_the_object():
    adata = make_adata(10, 20)
    before = adata.X.copy()
    for form in (adata.X, adata.X.toarray()):
        given = ad.AnnData(form, adata.obs, adata.var)
        block = AnnDataSource(given).read(RowRange(0, 0, 10))
        block.data[:] = -1
        block.indices[:] = 0
        np.testing.assert_array_equal(sp.csr_matrix(given.X).toarray(), before.toarray())


def test_identity_is_that_of_the_values(tmp_path):
    adata = make_adata(10, 20)
    (first,), (again,) = AnnDataSource(adata).fingerprint(), AnnDataSource(adata.copy()).fingerprint()
    assert first == again
    assert (first["cells"], first["genes"], first["nnz"]) == (10, 20, adata.X.nnz)
    adata.X.data[3] += 1
    assert AnnDataSource(adata).fingerprint()[0]["sha256"] != first["sha256"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = AnnDataSource(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
    assert backed.fingerprint()[0]["sha256"] == open_files(tmp_path / "cells.h5ad").fingerprint()[0]["sha256"]


def test_a_copy_by_pickle_reads_the_same():
    source = AnnDataSource(make_adata(10, 20))
    again = pickle.loads(pickle.dumps(source))
    assert_same_cells(source.read(RowRange(0, 0, 10)), again.read(RowRange(0, 0, 10)))


def test_cells_that_were_generated_keep_their_bins_apart():
    adata = make_adata(10, 20)
    adata.layers["bins"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray())
    assert "layer 'bins'" in AnnDataSource(adata).describe()[0]
    adata.uns["scmodelforge"] = {"synthetic": True}
    assert "no counts found" in AnnDataSource(adata).describe()[0]


def test_column_names_need_not_be_texts_or_differ():
    adata = make_adata(10, 20)
    adata.obs = pd.DataFrame(np.arange(30).reshape(10, 3), columns=[1, "1", "_index"], index=adata.obs_names)
    source = AnnDataSource(adata)
    assert source.obs_columns == ["1", "_index"]
    assert source.obs("_index")[1] == [str(number) for number in range(2, 30, 3)]
    assert list(source.obs_names()) == adata.obs_names.tolist()
