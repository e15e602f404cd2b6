"""Scores of rankings against their definitions, and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from scmodelforge.eval.ranking import RANKING_METRICS, Ranking


def scored(scores, truth, weights=None) -> dict[str, float]:
    return Ranking.of(np.asarray(scores, dtype=float)).scores(np.asarray(truth, dtype=bool), weights)


ITEMS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda items: len({truth for _, truth in items}) == 2
)


@given(ITEMS)
def test_areas_are_those_of_scikit_learn_with_ties_too(items):
    scores, truth = map(np.array, zip(*items, strict=True))
    found = scored(scores, truth)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["auprc"] == pytest.approx(average_precision_score(truth, scores))
    assert found["auprc_ratio"] == pytest.approx(found["auprc"] / truth.mean())


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=6))
def test_early_precision_is_the_mean_over_all_orders_of_tied_items(items):
    scores, truth = map(np.array, zip(*items, strict=True))
    k = int(truth.sum())
    if k in (0, len(truth)):
        return
    orders = [np.array(order) for order in permutations(range(len(items)))]
    sorted_ones = [order for order in orders if (np.diff(scores[order]) <= 0).all()]
    precision = np.mean([truth[order][:k].mean() for order in sorted_ones])
    assert scored(scores, truth)["epr"] == pytest.approx(precision / truth.mean())


@given(ITEMS, st.data())
def test_weights_are_repetitions(items, data):
    scores, truth = map(np.array, zip(*items, strict=True))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(items), max_size=len(items))))
    repeated = scored(np.repeat(scores, weights), np.repeat(truth, weights))
    np.testing.assert_allclose(list(scored(scores, truth, weights).values()), list(repeated.values()))


@settings(max_examples=5)
@given(ITEMS, st.data())
def test_compiled_and_not_the_scores_are_the_same(items, data):
    """The loop is compiled where there are many items."""
    scores, truth = map(np.array, zip(*items, strict=True))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(items), max_size=len(items))))
    ranking = Ranking.of(scores.astype(float))
    expected = ranking.scores(truth, weights)
    many = np.repeat(np.arange(len(items)), (1 << 17) // len(items) + 1)  # each item so often
    found = Ranking.of(scores[many].astype(float)).scores(truth[many], weights[many])
    np.testing.assert_allclose(list(found.values()), list(expected.values()))


@given(ITEMS, st.randoms())
def test_the_order_of_items_does_not_matter(items, random):
    mixed = list(items)
    random.shuffle(mixed)
    np.testing.assert_allclose(list(scored(*zip(*mixed, strict=True)).values()),
                               list(scored(*zip(*items, strict=True)).values()))  # fmt: skip


def test_constant_scores_are_at_chance():
    truth = np.arange(50) % 7 == 0
    found = scored(np.zeros(50), truth)
    expected = {"auroc": 0.5, "auprc": truth.mean(), "auprc_ratio": 1, "epr": 1}
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()))


@pytest.mark.parametrize("truth", [np.zeros(5), np.ones(5), np.zeros(0)])
def test_without_both_kinds_of_items_nothing_is_defined(truth):
    found = scored(np.arange(len(truth)), truth)
    assert set(found) == set(RANKING_METRICS)
    assert np.isnan(list(found.values())).all()
