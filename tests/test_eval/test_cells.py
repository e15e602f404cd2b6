from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scmodelforge._errors import DataError
from scmodelforge.eval.base import BenchmarkInputs, Cells

POINTS = np.arange(8.0).reshape(4, 2)


class TestCells:
    def test_turn_categories_and_missing_values_into_plain_text(self):
        column = pd.Categorical(["a", None, "b", "a"], categories=["a", "b", "unused"])
        assert Cells(POINTS, labels=column).labels.tolist() == ["a", "", "b", "a"]
        assert Cells(POINTS, labels=[1, 2, 1, np.nan]).labels.tolist() == ["1.0", "2.0", "1.0", ""]

    def test_refuse_columns_of_another_length(self):
        with pytest.raises(DataError, match="3 labels for 4 embeddings"):
            Cells(POINTS, labels=["a", "b", "c"])

    def test_refuse_a_cell_listed_twice(self):
        with pytest.raises(DataError, match="1 of 4 cells are listed twice"):
            Cells(POINTS, positions=np.array([5, 6, 5, 7]))

    def test_refuse_embeddings_that_are_no_table(self):
        with pytest.raises(DataError, match=r"shape \(4,\)"):
            Cells(POINTS[:, 0])

    @pytest.mark.parametrize("by", ["positions", "names", "content"])
    def test_have_an_order_of_their_own(self, by):
        keys = {"positions": np.array([4, 9, 1, 7]), "names": np.array(list("cabd"))}
        cells = Cells(POINTS, labels=list("abab"), **({by: keys[by]} if by in keys else {}))
        other = cells.select(np.array([2, 0, 3, 1]))
        np.testing.assert_array_equal(cells.in_order().embeddings, other.in_order().embeddings)
        np.testing.assert_array_equal(cells.in_order().labels, other.in_order().labels)

    def test_count_equal_embeddings(self):
        assert Cells(POINTS[[0, 1, 0, 0]]).num_duplicates == 2
        assert Cells(np.ones((3, 2))).is_constant
        assert not Cells(POINTS).is_constant


class TestBenchmarkInputs:
    def test_refuse_a_held_out_cell_that_was_trained_on(self):
        with pytest.raises(DataError, match="1 held-out cells are training cells too"):
            BenchmarkInputs("d", Cells(POINTS, positions=np.arange(4)), Cells(POINTS, positions=np.arange(3, 7)))
        names = np.array(list("abcd"))
        with pytest.raises(DataError, match="same names"):
            BenchmarkInputs("d", Cells(POINTS, names=names), Cells(POINTS, names=names))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_refuse_numbers_that_are_none(self, bad):
        broken = POINTS.copy()
        broken[1, 0] = bad
        with pytest.raises(DataError, match="'pca' embeddings of 1 of 4 cells are NaN or infinite"):
            BenchmarkInputs("d", Cells(POINTS), Cells(broken), representation="pca")

    def test_refuse_parts_of_different_width(self):
        with pytest.raises(DataError, match="2 columns and held-out ones 1"):
            BenchmarkInputs("d", Cells(POINTS), Cells(POINTS[:, :1]))
