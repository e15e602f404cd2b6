from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.eval.embedding.cell_scores import CellScores


def scores(values, strata=None, **others) -> CellScores:
    values = np.asarray(values, dtype=float)
    return CellScores(values, np.arange(len(values)), None if strata is None else np.asarray(strata), **others)


def test_the_score_is_the_mean_the_mean_of_strata_or_the_median():
    assert scores([0, 0, 0, 1]).score == 0.25
    assert scores([0, 0, 0, 1], [0, 0, 0, 1]).score == 0.5
    assert scores([0, 0, 5, 9], is_median=True).score == 2.5


@pytest.mark.parametrize("is_median", [False, True])
def test_intervals_hold_the_score(is_median):
    found = scores(np.random.default_rng(0).normal(size=200), is_median=is_median)
    groups = np.array([f"donor{i % 8}" for i in range(200)])
    for low, high in (
        found.interval(seed=0, purpose="test"),
        found.group_interval(groups, seed=0, purpose="test"),
    ):
        assert low < found.score < high


def test_groups_that_differ_widen_the_interval():
    groups = np.repeat([f"donor{i}" for i in range(6)], 50)
    found = scores(np.repeat([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], 50) + 0.01 * np.random.default_rng(0).normal(size=300))
    cells = np.diff(found.interval(seed=0, purpose="test"))[0]
    assert np.diff(found.group_interval(groups, seed=0, purpose="test"))[0] > 3 * cells


def test_groups_alike_give_one_value():
    groups = np.repeat([f"donor{i}" for i in range(4)], 2)
    assert scores([0, 1] * 4).group_interval(groups, seed=0, purpose="test") == [0.5, 0.5]
    assert scores([0, 1] * 4, [0, 1] * 4).group_interval(groups, seed=0, purpose="test") == [0.5, 0.5]
    assert scores([0, 1] * 4, is_median=True).group_interval(groups, seed=0, purpose="test") == [0.5, 0.5]


def test_two_groups_are_too_few_and_cells_without_one_do_not_count():
    groups = np.array(["a", "a", "b", "b", "", ""])
    assert scores(np.arange(6)).group_interval(groups, seed=0, purpose="test") is None
    groups[4:] = ["c", ""]
    found = scores([0, 0, 0, 0, 0, 99]).group_interval(groups, seed=0, purpose="test")
    assert found == [0, 0]
