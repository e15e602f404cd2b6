"""Medians over runs of cells, compiled and not, are those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data._pool_medians import run_medians

pytest.importorskip("numba")


@pytest.fixture(params=[0, 10**9], ids=["numba", "numpy"])
def form(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compile, "_WORTH_COMPILING", request.param)
        yield


def check(rows: np.ndarray, sizes: list[int], count: int) -> None:
    before = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    found = run_medians(before, np.array(sizes), count)
    for number, size in enumerate(sizes):
        for first in range(count):
            assert found[number, first] == np.median(before[first + size] - before[first])


@pytest.mark.usefixtures("form")
class TestMedians:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 3))
    def test_of_every_run(self, seed, genes, highest):
        rng = np.random.default_rng(seed)
        check(rng.integers(0, highest + 1, (14, genes)) * 0.5, [2, 3, 5], 9)

    @pytest.mark.parametrize("genes", [400, 401])
    def test_of_runs_that_change_little_and_then_much(self, genes):
        rng = np.random.default_rng(0)
        rows = rng.gamma(0.5, 2.0, (80, genes))
        rows[40:] *= 50
        check(rows, [7, 20], 60)
