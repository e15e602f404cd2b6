"""Panels, names and columns of several files as one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.merging import RowNames, merge_columns, union_of_genes


class TestUnionOfGenes:
    def test_genes_come_in_the_order_they_are_first_met(self):
        genes, columns = union_of_genes([["b", "a"], ["c", "a"]])
        assert list(genes) == ["b", "a", "c"]
        assert [list(each) for each in columns] == [[0, 1], [2, 1]]

    def test_a_second_column_of_a_gene_is_a_gene_of_its_own(self):
        genes, columns = union_of_genes([["a", "a", "a-1"], ["a", "a"]])
        assert list(genes) == ["a", "a-2", "a-1"]
        assert [list(each) for each in columns] == [[0, 1, 2], [0, 1]]

    @given(st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=4))
    def test_names_are_unique_and_every_column_keeps_its_gene(self, panels):
        genes, columns = union_of_genes(panels)
        assert len(set(genes)) == len(genes)
        for panel, found in zip(panels, columns, strict=True):
            assert len(set(found)) == len(panel)
            assert [genes[place].split("-")[0] for place in found] == panel


class TestMergeColumns:
    def test_categories_of_all_files_are_joined(self):
        found = merge_columns([(pd.Categorical(["x", None, "y"]), 3), (None, 1), (pd.Categorical(["z", "x"]), 2)])
        assert found.tolist() == ["x", np.nan, "y", np.nan, "z", "x"] or pd.isna(found[1])
        assert list(found.categories) == ["x", "y", "z"]
        assert list(found.codes) == [0, -1, 1, -1, 2, 0]

    def test_an_order_is_kept_only_if_all_files_have_the_same(self):
        ordered = pd.Categorical(["lo", "hi", "lo"], categories=["lo", "hi"], ordered=True)
        assert merge_columns([(ordered, 3), (ordered, 3)]).ordered
        assert not merge_columns([(ordered, 3), (ordered.as_unordered(), 3)]).ordered
        assert not merge_columns([(ordered, 3), (None, 1)]).ordered

    def test_numeric_categories_stay_numbers(self):
        found = merge_columns([(pd.Categorical([3, 1, 3]), 3), (pd.Categorical([2]), 1)])
        assert found.tolist() == [3, 1, 3, 2]
        assert found.categories.dtype.kind == "i"

    def test_numbers_stay_numbers(self):
        found = merge_columns([(np.array([1, 2], np.int16), 2), (np.array([70_000], np.int32), 1)])
        assert found.dtype == np.int32
        assert found.tolist() == [1, 2, 70_000]

    def test_missing_integers_are_nullable_and_missing_floats_nan(self):
        whole = merge_columns([(np.array([1, 2]), 2), (None, 1)])
        assert whole.dtype == "Int64"
        assert whole.isna().tolist() == [False, False, True]
        broken = merge_columns([(np.array([0.5], np.float32), 1), (None, 1)])
        assert broken.dtype == np.float32
        assert np.isnan(broken[1])

    def test_nullable_columns_keep_their_gaps(self):
        found = merge_columns([(pd.array([True, None], dtype="boolean"), 2), (np.array([False]), 1)])
        assert found.isna().tolist() == [False, True, False]
        assert bool(found[0])
        assert not found[2]

    def test_texts_that_are_all_different_are_no_categories(self):
        found = merge_columns([(pd.Categorical(["q", "p"]), 2), (pd.Categorical(["r"]), 1)])
        assert isinstance(found, np.ndarray)
        assert found.tolist() == ["q", "p", "r"]

    def test_numbers_and_texts_together_are_texts(self):
        found = merge_columns([(np.array([1, 1]), 2), (pd.Categorical(["x"]), 1)])
        assert found.tolist() == ["1", "1", "x"]


class TestRowNames:
    def test_names_that_do_not_repeat_stay(self):
        names = RowNames(["a", "b", "ä"], [1, 2], ["f", "g"])
        assert names.num_changed == 0
        assert names.take(np.array([2, 0])).tolist() == ["ä", "a"]

    def test_names_of_two_files_get_the_files_names(self):
        names = RowNames(["a", "b", "a"], [2, 1], ["f", "g"])
        assert names.take(np.arange(3)).tolist() == ["a-f", "b", "a-g"]
        assert names.num_changed == 2

    def test_names_that_repeat_in_a_file_get_their_row_too(self):
        names = RowNames(["a", "a", "b"], [3], ["f"])
        assert names.take(np.arange(3)).tolist() == ["a-f-0", "a-f-1", "b"]

    @given(st.lists(st.sampled_from(["a", "b", "a-f", ""]), max_size=8), st.integers(0, 8))
    def test_every_name_is_there_once(self, texts, cut):
        cut = min(cut, len(texts))
        names = RowNames(texts, [cut, len(texts) - cut], ["f", "g"])
        found = names.take(np.arange(len(texts))).tolist()
        assert len(set(found)) == len(texts)
