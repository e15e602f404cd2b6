"""A gene that a cell has twice counts as the sum, wherever rows are read."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge.data.sources._duplicates import has_duplicates, summed
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0, 1], [1, 2]], False),
        ([[0, 1], [], [1, 2]], False),  # the same column, in two rows
        ([[2, 0, 1], [1, 0]], False),
        ([[], []], False),
        ([[], [3, 3]], True),
        ([[3, 0, 3], [1]], True),
        ([[1], [0, 1], [2, 1, 2], []], True),
    ],
)
def test_rows_with_a_column_twice_are_found(rows, expected):
    indptr = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int32)
    assert has_duplicates(columns, indptr, 4) is expected


def test_sums_are_those_of_scipy_and_what_is_given_stays():
    data, columns = np.array([1, 2, 4, 8], np.float32), np.array([3, 0, 3, 3], np.int32)
    kept = data.copy(), columns.copy()
    found = summed((data, columns, np.array([0, 3, 4])), 4)
    expected = sp.csr_matrix((data.copy(), columns.copy(), [0, 3, 4]), shape=(2, 4)).toarray()
    np.testing.assert_array_equal(sp.csr_matrix(found, shape=(2, 4)).toarray(), expected)
    assert len(found[0]) == 3
    np.testing.assert_array_equal(data, kept[0])
    np.testing.assert_array_equal(columns, kept[1])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_gives_each_gene_once_and_is_read_into_arrays_no_more(tmp_path, compression):
    once = make_adata(12, 6)
    parts = sp.coo_matrix(once.X)
    halves = np.repeat(parts.data / 2, 2), np.repeat(parts.col, 2)
    order = np.argsort(np.repeat(parts.row, 2), kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(parts.row, minlength=12) * 2))
    twice = ad.AnnData(sp.csr_matrix((halves[0][order], halves[1][order], starts), once.shape), once.obs, once.var)
    twice.write_h5ad(tmp_path / "cells.h5ad", compression=compression)
    source, rows = open_files(tmp_path / "cells.h5ad"), np.array([7, 2, 9])
    for block, expected in (
        (source.read(RowRange(0, 0, 12)), once.X),
        (source.read_rows(0, rows), once.X[rows]),
    ):
        np.testing.assert_array_equal(np.diff(block.indptr), np.diff(expected.indptr))
        cells = sp.csr_matrix((block.data, block.indices, block.indptr), expected.shape)
        np.testing.assert_array_equal(cells.toarray(), expected.toarray())
    assert source.row_lengths(0, rows) is None
    source.close()
