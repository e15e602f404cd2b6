from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data import _value_counts
from scmodelforge.data._value_counts import ValueCounts

VALUES = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40) | st.integers(1, 2**31)), max_size=8))


@given(VALUES, st.floats(0, 60), st.sampled_from([0, 3, 10**6]))
def test_sums_are_those_of_the_values_one_by_one(parts, highest, gathered):
    counts = ValueCounts(4)
    with patch.object(_value_counts, "_GATHERED", gathered):
        for part in parts:
            genes, values = np.array(part, dtype=np.int64).reshape(-1, 2).T
            counts.add(genes, values.astype(np.float64))
    every = np.array([pair for part in parts for pair in part], dtype=np.float64).reshape(-1, 2)
    for limit, (sums, squares) in ((np.inf, counts.sums()), (highest, counts.clipped_sums(np.full(4, highest)))):
        for gene in range(4):
            values = np.minimum(every[every[:, 0] == gene, 1], limit)
            assert sums[gene] == pytest.approx(values.sum())
            assert squares[gene] == pytest.approx((values**2).sum())


def test_each_gene_has_a_limit_of_its_own():
    counts = ValueCounts(2)
    counts.add(np.array([0, 0, 1, 1]), np.array([2.0, 100.0, 2.0, 100.0]))
    sums, squares = counts.clipped_sums(np.array([1.5, 20.5]))
    assert sums.tolist() == [3.0, 22.5]
    assert squares.tolist() == [4.5, 4 + 20.5**2]
