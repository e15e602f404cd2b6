"""Telling what values and gene ids are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.inspect import describe_gene_ids, describe_values, gene_id_type, is_whole

COUNTS = sp.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 60)))
TOTALS = np.repeat(np.asarray(COUNTS.sum(axis=1)).ravel(), np.diff(COUNTS.indptr))


def kind(values, indptr=None) -> str:
    return describe_values(np.asarray(values, dtype=np.float32), indptr).kind


class TestValues:
    def test_whole_numbers_are_counts(self):
        assert kind(COUNTS.data) == "counts"
        assert describe_values(np.array([0, 1, 1234])).evidence == "whole numbers up to 1,234"

    @pytest.mark.parametrize("target", [1e3, 1e4, 1e6])
    def test_logged_values_are_told_by_their_totals(self, target):
        found = describe_values(np.log1p(COUNTS.data / TOTALS * target), COUNTS.indptr)
        assert found.kind == "log1p"
        assert found.evidence.endswith(f"without the logarithm every cell sums to {target:,.0f}")

    @pytest.mark.parametrize("target", [1.0, 100.0, 1e4])
    def test_normalised_values_are_told_by_their_totals_even_if_small(self, target):
        found = describe_values(COUNTS.data / TOTALS * target, COUNTS.indptr)
        assert found.kind == "normalized"
        assert found.evidence.endswith(f"every cell sums to {target:,.0f}")

    def test_without_equal_totals_the_highest_value_decides(self):
        factors = np.repeat(np.linspace(0.3, 3, 40), np.diff(COUNTS.indptr))
        assert kind(np.log1p(COUNTS.data * factors), COUNTS.indptr) == "log1p"
        assert kind(np.log1p(COUNTS.data)) == "log1p"
        assert kind(COUNTS.data * factors * 100, COUNTS.indptr) == "normalized"

    def test_the_totals_of_two_cells_prove_nothing(self):
        assert "sums to" not in describe_values(np.array([0.25, 0.75, 0.5, 0.5]), np.array([0, 2, 4])).evidence

    def test_cells_without_values_do_not_disturb_the_totals(self):
        indptr = np.array([0, 0, 2, 2, 4, 6, 6])
        found = describe_values(np.array([0.25, 0.75, 0.5, 0.5, 0.1, 0.9]), indptr)
        assert found.evidence.endswith("every cell sums to 1")

    def test_negative_values_are_scaled(self):
        found = describe_values(np.array([-0.5, 1.0, 2.0, 3.0]))
        assert (found.kind, found.evidence) == ("scaled", "1 of 4 values are negative, the lowest -0.5")

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_invalid(self, wrong):
        found = describe_values(np.array([1.0, wrong]))
        assert (found.kind, found.evidence) == ("invalid", "1 of 2 values are NaN or infinite")

    @pytest.mark.parametrize("values", [[], [0.0, 0.0]])
    def test_nothing_but_zeros_is_empty(self, values):
        assert kind(values) == "empty"

    @given(st.lists(st.integers(-(10**6), 10**6)), st.floats(0.01, 0.99))
    def test_whole_numbers_are_whole_and_nothing_between_is(self, numbers, fraction):
        assert is_whole(np.array(numbers, dtype=np.float64)).all()
        assert not is_whole(np.array(numbers, dtype=np.float64) + fraction).any()

    def test_nan_and_infinity_are_not_whole(self):
        assert is_whole(np.array([np.nan, np.inf, -np.inf, 1.0])).tolist() == [False, False, False, True]


def numbered(prefix: str, n: int = 10, suffix: str = "") -> list[str]:
    return [f"{prefix}{i:011d}{suffix}" for i in range(n)]


SYMBOLS = ["CD4", "MT-CO1", "HLA-DRB1", "RP11-34P13.7", "7SK", "Sox2", "lincRNA:CR3", "C1orf112"]


class TestGeneIds:
    @pytest.mark.parametrize(
        ("ids", "expected", "words"),
        [
            (numbered("ENSG"), "ensembl_human", "human Ensembl ids (ENSG00000000000, ...)"),
            (numbered("ENSG", suffix=".12"), "ensembl_human", "human Ensembl ids (ENSG00000000000.12, ...)"),
            (numbered("ENSMUSG"), "ensembl_mouse", "mouse Ensembl ids (ENSMUSG00000000000, ...)"),
            (numbered("ENSDARG"), "unknown", "Ensembl ids of another species (ENSDARG00000000000, ...)"),
            (SYMBOLS, "symbol", "gene symbols (CD4, ...)"),
            (["12", "7", "100"], "unknown", "numbers (12, ...)"),
            (SYMBOLS[:5] + numbered("ENSG", 5), "mixed", "a mixture of Ensembl ids and symbols (CD4, ...)"),
            (numbered("ENST"), "unknown", "neither Ensembl ids nor gene symbols (ENST00000000000, ...)"),
            (["a gene", "?"], "unknown", "neither Ensembl ids nor gene symbols (a gene, ...)"),
            ([], "unknown", "neither Ensembl ids nor gene symbols"),
        ],
    )
    def test_are_told_and_described(self, ids, expected, words):
        assert gene_id_type(np.array(ids, dtype=object)) == expected
        assert describe_gene_ids(ids) == words

    def test_a_few_others_and_blanks_change_nothing(self):
        ids = ["ERCC-00002", "", "", *numbered("ENSG")]
        assert gene_id_type(ids) == "ensembl_human"
        assert describe_gene_ids(ids) == "human Ensembl ids (ENSG00000000000, ...)"
