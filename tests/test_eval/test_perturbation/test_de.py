"""Tests of differential expression are those of scipy, gene by gene."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scmodelforge.data import _compile
from scmodelforge.eval.perturbation.cells import ConditionCells
from scmodelforge.eval.perturbation.conditions import CONTROL, Group
from scmodelforge.eval.perturbation.de import RankSums, benjamini_hochberg, overestimated_t, rank_sums, top_genes

A, C = Group("", "A"), Group("", CONTROL)


def cells(*, num_treated=17, num_control=23, num_genes=12, seed=0, dense=False) -> ConditionCells:
    """Return counts with many ties and zeros; the last gene is the same in every cell."""
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.poisson(rng.uniform(0.1, 3, num_genes), (num_treated + num_control, num_genes)))
    values[:num_treated, : num_genes // 2] *= 1.5
    values[:, -1] = 1
    matrix = values if dense else sp.csr_matrix(values.astype(np.float32))
    rows = {A: np.arange(num_treated), C: np.arange(num_treated, num_treated + num_control)}
    return ConditionCells(matrix, rows, np.arange(num_genes), "log1p", "cells")


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_rank_sums_are_those_of_scipy(is_compiled, dense, monkeypatch):
    monkeypatch.setattr(_compile._state, "many_to_come", is_compiled)
    found, both = rank_sums(cells(dense=dense), A), cells()
    ours, theirs = (both.cells(group).toarray().astype(float) for group in (A, C))
    expected = stats.mannwhitneyu(ours[:, :-1], theirs[:, :-1], method="asymptotic")
    np.testing.assert_allclose(found.u[:-1], expected.statistic)
    np.testing.assert_allclose(found.p[:-1], expected.pvalue, rtol=1e-9)
    assert found.p[-1] == 1  # no difference to rank
    np.testing.assert_allclose(found.fdr, stats.false_discovery_control(found.p))


def test_fold_changes_are_of_the_means_of_logarithms():
    values = np.log1p(np.array([[3.0, 0, 2, 0], [3, 0, 2, 0], [1, 0, 0, 4], [1, 0, 0, 4]]))
    rows = {A: np.array([0, 1]), C: np.array([2, 3])}
    found = rank_sums(ConditionCells(values, rows, np.arange(4), "log1p", "cells"), A)
    np.testing.assert_allclose(found.log2_fold, [np.log2(3), 0, np.inf, -np.inf])


def test_significant_genes_are_ranked_by_the_size_of_their_change():
    table = RankSums(*np.zeros((2, 4)), fdr=np.array([0.01, 0.2, 0.04, 0.001]), log2_fold=np.array([1.0, 9, -3, -1]))
    assert table.ranked().tolist() == [2, 0, 3]


def test_false_discovery_rates_of_one_gene_are_its_p():
    assert benjamini_hochberg(np.array([0.3])).tolist() == [0.3]


def test_t_takes_the_control_for_no_larger_than_the_group():
    both = cells()
    ours, theirs = (both.cells(group).toarray().astype(float) for group in (A, C))
    for gene in range(11):
        expected = stats.ttest_ind_from_stats(
            ours[:, gene].mean(), ours[:, gene].std(ddof=1), 17, theirs[:, gene].mean(), theirs[:, gene].std(ddof=1), 17
        ).statistic
        assert overestimated_t(both, A)[gene] == pytest.approx(expected, rel=1e-5)
    assert overestimated_t(both, A)[11] == 0


def test_top_genes_have_the_largest_scores_of_either_sign():
    assert top_genes(np.array([1.0, -5, 3, 5]), 3).tolist() == [1, 3, 2]


def test_the_control_is_read_in_blocks(monkeypatch):
    from scmodelforge.eval.perturbation import cells as module

    whole = rank_sums(cells(), A)
    monkeypatch.setattr(module, "_DENSE_VALUES", 50)  # two genes at a time
    parts = rank_sums(cells(), A)
    np.testing.assert_array_equal(parts.p, whole.p)
    np.testing.assert_allclose(parts.log2_fold, whole.log2_fold, rtol=1e-12)
