"""What is said of effects whose truth is known: that a planted one is found, and that chance is called chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from scmodelforge.eval.screens.effects import CellEffects, cell_effects
from scmodelforge.eval.screens.plan import CellPlan, Screen
from scmodelforge.eval.screens.statistics import collected, summary

NUM_GENES, NUM_RANDOM = 40, 8


def screen(sets, kind: str = "delete", **more) -> Screen:
    tokens = np.arange(1, NUM_GENES + 1)
    is_gene = np.arange(NUM_GENES + 2) > 0
    is_gene[-1] = False
    return Screen(kind, sets, tokens, is_gene, 64, np.arange(NUM_GENES), **more)


def screened(values: np.ndarray, others: np.ndarray, *, goal: bool = False) -> list[CellEffects]:
    """Return effects of one gene for each column of values, (cells, n), beside random ones, (cells, R)."""
    sets = [(gene,) for gene in range(values.shape[1])]
    drawn = [(NUM_GENES - 1 - number,) for number in range(others.shape[1])]
    plan = CellPlan(np.arange(len(sets)), {1: drawn})
    both = np.column_stack([values, others])
    return [cell_effects(n, screen(sets), plan, row, row if goal else None) for n, row in enumerate(both)]


def rows(effects, num_sets: int, cells: int, **more):
    return summary(collected(effects), num_sets, [("", np.arange(cells))], seed=0, **more)


class TestTest:
    def test_of_random_genes_one_in_twenty_is_below_5_percent(self):
        random = np.random.default_rng(0)
        cells = random.lognormal(size=(30, 1))  # some cells move more, whatever is done
        found = rows(screened(cells * random.random((30, 600)), cells * random.random((30, NUM_RANDOM))), 600, 30)
        values = np.array([row["p_value"] for row in found])
        # genes are compared with the same random ones, so that the share is less certain than that of 600 draws
        assert 0.005 < (values < 0.05).mean() < 0.15

    def test_an_effect_that_differs_between_cells_is_found_where_a_pooled_test_does_not_see_it(self):
        random = np.random.default_rng(1)
        cells = 100 ** random.random((25, 1))
        others = cells * random.random((25, NUM_RANDOM))
        values = cells * (0.7 + 0.3 * random.random((25, 1)))
        (row,) = rows(screened(values, others), 1, 25)
        assert row["p_value"] < 1e-3
        assert mannwhitneyu(values.ravel(), others.ravel()).pvalue > 0.01

    def test_it_is_the_rank_sum_test_of_one_cell(self):
        """Of one value among others, scipy's normal approximation without correction for continuity."""
        others = np.array([[0.1, 0.4, 0.4, 0.6, 0.9, 0.2, 0.5, 0.3]])
        for value in (0.05, 0.4, 0.7):
            (row,) = rows(screened(np.array([[value]]), others), 1, 1)
            expected = mannwhitneyu([value], others[0], method="asymptotic", use_continuity=False).pvalue
            assert row["p_value"] == pytest.approx(expected, rel=1e-6)

    def test_a_gene_is_not_compared_with_itself(self):
        plan = CellPlan(np.array([0]), {1: [(0,), (5,), (6,)]})
        found = cell_effects(0, screen([(0,)]), plan, np.array([3.0, 3.0, 1.0, 2.0]), None)
        assert found.random.tolist() == [1.5]
        assert found.deviation.tolist() == [1.0]
        assert found.variance.tolist() == pytest.approx([2 / 3])

    def test_without_random_genes_there_is_none(self):
        found = cell_effects(0, screen([(0,)]), CellPlan(np.array([0]), {}), np.array([3.0]), None)
        (row,) = rows([found], 1, 1)
        assert np.isnan([row["p_value"], row["fdr"], row["random_shift"]]).all()


class TestTable:
    def test_rows_are_sorted_by_effect_and_planted_ones_come_first(self):
        random = np.random.default_rng(2)
        values = random.random((20, 12)) * 0.1
        values[:, 7] += 1
        values[:, 3] -= 1
        found = rows(screened(values, random.random((20, NUM_RANDOM)) * 0.1, goal=True), 12, 20)
        assert (found[0]["tested"], found[-1]["tested"]) == (7, 3)
        assert {row["tested"] for row in found if row["fdr"] < 1e-3} == {3, 7}
        assert found[0]["goal_shift"] == pytest.approx(values[:, 7].mean(), rel=1e-6)
        assert all(row["goal_shift_low"] < row["goal_shift"] < row["goal_shift_high"] for row in found)

    def test_intervals_hold_the_mean_of_all_cells_nineteen_times_in_twenty(self):
        random = np.random.default_rng(3)
        values = random.exponential(size=(60, 300))
        found = rows(screened(values, random.random((60, 2))), 300, 60)
        held = np.mean([row["shift_low"] < 1 < row["shift_high"] for row in found])
        assert 0.88 < held < 0.99

    def test_the_order_of_cells_does_not_matter(self):
        random = np.random.default_rng(4)
        effects = screened(random.random((20, 5)), random.random((20, NUM_RANDOM)))
        assert rows(effects, 5, 20) == rows(effects[::-1], 5, 20)

    def test_groups_have_rows_of_their_own(self):
        values = np.array([[1.0], [1.0], [3.0], [3.0]])
        found = collected(screened(values, np.zeros((4, 2))))
        one, two, none = summary(found, 1, [("a", [0, 1]), ("b", [2, 3]), ("c", [9])], seed=0)
        assert (one["group"], one["shift"], one["num_cells"]) == ("a", 1, 2)
        assert (two["group"], two["shift"]) == ("b", 3)
        assert none["num_cells"] == 0
        assert np.isnan([none["shift"], none["p_value"]]).all()


class TestRandomGenes:
    def drawn(self, ids, key: int = 5, sets=((0,), (1, 2)), **more):
        from scmodelforge.eval.genes.changed_cells import CellTokens

        cell = CellTokens(np.array(ids), np.ones(len(ids)), np.zeros(len(ids)))
        return screen(list(sets), **more).of_cell(cell, key)

    def test_are_expressed_where_genes_are_deleted_and_do_not_depend_on_the_order_of_tokens(self):
        first = self.drawn(range(1, 21), num_random=4)
        assert first.tested.tolist() == [0, 1]
        assert {size: len(sets) for size, sets in first.random.items()} == {1: 4, 2: 4}
        assert all(gene < 20 for sets in first.random.values() for genes in sets for gene in genes)
        second = self.drawn(range(20, 0, -1), num_random=4)
        assert first.random == second.random

    def test_differ_between_cells_and_seeds(self):
        all_of_them = [self.drawn(range(1, 21), **more).random[1] for more in ({}, {"key": 6}, {"seed": 1})]
        assert len({tuple(each) for each in all_of_them}) == 3

    def test_are_fewer_in_a_cell_of_few_genes(self):
        found = self.drawn([1, 2, 3])
        assert len(found.random[1]) == 3
        assert len(set(found.random[2])) == len(found.random[2]) <= 3

    def test_are_any_that_were_measured_where_genes_are_raised(self):
        found = self.drawn([1], kind="overexpress")
        assert found.tested.tolist() == [0, 1]
        assert len(found.random[1]) == 10
