"""The curve of variance over mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.data._loess import loess

from . import hvg_cases

STORED = json.loads((Path(__file__).parents[1] / "fixtures" / "hvg_scanpy.json").read_text())["loess"]


def test_is_that_of_scikit_misc_also_where_many_points_have_the_same_place():
    counts = hvg_cases.counts()
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    varies = variance > 0
    found = loess(np.log10(mean[varies]), np.log10(variance[varies]))
    assert found[::15] == pytest.approx(STORED, abs=1e-11)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2), st.integers(10, 200))
def test_a_parabola_is_its_own_curve(a, b, c, n):
    x = np.random.default_rng(n).normal(size=n)
    y = a + b * x + c * x**2
    assert loess(x, y) == pytest.approx(y, abs=1e-8)


def test_does_not_depend_on_the_order_of_the_points():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 30, 100) / 7, rng.normal(size=100)
    order = rng.permutation(100)
    assert loess(x[order], y[order]) == pytest.approx(loess(x, y)[order], abs=1e-9)


def test_too_few_points():
    with pytest.raises(DataError, match="over 9 points has 2 for a quadratic, which needs 3"):
        loess(np.arange(9.0), np.arange(9.0))


def test_points_in_one_place():
    with pytest.raises(DataError, match="6 points at the same place, 1, and no curve through them"):
        loess(np.append(np.ones(19), 2.0), np.arange(20.0))
