"""Ranks of a perturbation among others."""

from __future__ import annotations

import numpy as np

from scmodelforge.eval.perturbation.ranks import ranks_within


def test_one_that_is_alone_in_its_covariate_has_none():
    covariates = np.array(["a", "a", "b"])
    found = ranks_within(covariates, lambda row, others: np.abs(others - row).astype(float))
    np.testing.assert_array_equal(found, [0.0, 0.0, np.nan])


def test_as_near_counts_half():
    found = ranks_within(np.array(["a"] * 4), lambda row, others: np.zeros(len(others)))
    np.testing.assert_array_equal(found, [3 / 8] * 4)
