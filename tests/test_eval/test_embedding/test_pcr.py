from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from scmodelforge.eval.embedding.pcr import batch_variance, pcr_comparison


def test_is_the_regression_of_every_component_on_the_batch():
    rng = np.random.default_rng(0)
    points, batches = rng.normal(size=(90, 7)), rng.integers(0, 3, 90)
    points[:, 0] += 2 * batches
    pca = PCA().fit(points)
    components, indicators = pca.transform(points), np.eye(3)[batches]
    explained = [LinearRegression().fit(indicators, column).score(indicators, column) for column in components.T]
    expected = np.average(explained, weights=pca.explained_variance_)
    assert batch_variance(points, batches) == pytest.approx(expected, abs=1e-10)


def test_nothing_removed_is_zero_all_of_it_one_and_more_than_before_zero():
    assert pcr_comparison(0.4, 0.4) == 0
    assert pcr_comparison(0.4, 0.0) == 1
    assert pcr_comparison(0.4, 0.5) == 0


def test_is_not_defined_without_variance():
    assert math.isnan(batch_variance(np.ones((4, 2)), np.array([0, 0, 1, 1])))
    assert math.isnan(pcr_comparison(0.0, 0.1))
