from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.tokenizers.bin_centres import BinCentres
from scmodelforge.tokenizers.bins import quantile_bin_bounds

COUNTS = st.integers(1, 6).map(float)
ANYTHING = st.floats(0.0625, 1000, width=32)
CELL = st.lists(COUNTS, max_size=30) | st.lists(ANYTHING, max_size=30) | st.lists(st.just(3.0), max_size=9)
BLOCK = st.lists(CELL, max_size=5)
N_BINS = st.integers(2, 12) | st.just(51)


def bounds(cells: list, n_bins: int) -> list[tuple[list[int], list[int]]]:
    """Return the bounds of all values of each cell, binned together."""
    flat = np.array([value for cell in cells for value in cell], dtype=np.float64)
    numbers = np.repeat(np.arange(len(cells)), [len(cell) for cell in cells])
    lowest, highest = quantile_bin_bounds(numbers, flat, len(cells), n_bins)
    assert (lowest.dtype, highest.dtype) == (np.int64, np.int64)
    return [(lowest[numbers == cell].tolist(), highest[numbers == cell].tolist()) for cell in range(len(cells))]


def reference(values: list[float], n_bins: int) -> tuple[list[int], list[int]]:
    """Bin one cell as the paper's formula says, with numpy."""
    if not values:
        return [], []
    edges = np.quantile(np.array(values), np.linspace(0, 1, n_bins - 1))
    highest = np.digitize(values, edges, right=False)
    below = np.digitize(values, edges, right=True)
    return np.minimum(below + 1, highest).tolist(), highest.tolist()


def many_cells(seed: int = 0, *, mean: float = 3.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.ceil(rng.gamma(0.7, mean, rng.integers(1, 300))) for _ in range(40)]


class TestBounds:
    @given(BLOCK, N_BINS)
    def test_are_those_of_numpy_for_each_cell_of_a_block(self, cells, n_bins):
        assert bounds(cells, n_bins) == [reference(cell, n_bins) for cell in cells]

    @pytest.mark.parametrize("mean", [0.5, 5.0, 500.0])
    def test_are_those_of_numpy_for_cells_of_real_size(self, mean):
        cells = [cell.tolist() for cell in many_cells(mean=mean)]
        assert bounds(cells, 51) == [reference(cell, 51) for cell in cells]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], ([], [])),
            ([7.0], ([1], [5])),  # equals all five edges
            ([2.0, 2.0, 2.0], ([1, 1, 1], [5, 5, 5])),
            ([1.0, 2.0], ([1, 5], [1, 5])),  # edges 1, 1.25, 1.5, 1.75, 2
            ([2.0, 1.0, 1.0, 1.0, 1.0], ([5, 1, 1, 1, 1], [5, 4, 4, 4, 4])),  # edges 1, 1, 1, 1, 2
            ([5.0, 3.0, 1.0, 2.0, 4.0], ([5, 3, 1, 2, 4], [5, 3, 1, 2, 4])),  # edges are the values
        ],
    )
    def test_of_small_cells_with_six_bins(self, values, expected):
        assert bounds([values], 6) == [expected]

    @given(BLOCK, N_BINS)
    def test_lie_within_the_bins_above_zero_and_rise_with_the_value(self, cells, n_bins):
        for cell, (lowest, highest) in zip(cells, bounds(cells, n_bins), strict=True):
            assert all(1 <= low <= high <= n_bins - 1 for low, high in zip(lowest, highest, strict=True))
            order = np.argsort(cell, kind="stable")
            assert (np.diff(np.array(lowest)[order]) >= 0).all()
            assert (np.diff(np.array(highest)[order]) >= 0).all()

    @given(BLOCK, N_BINS, st.integers(-8, 8))
    def test_do_not_change_with_the_scale(self, cells, n_bins, power):
        scaled = [[value * 2.0**power for value in cell] for cell in cells]
        assert bounds(scaled, n_bins) == bounds(cells, n_bins)

    def test_do_not_change_with_the_logarithm(self):
        cells = many_cells()
        assert bounds([np.log1p(cell) for cell in cells], 51) == bounds(cells, 51)
        normalised = [np.log1p(cell / cell.sum() * 10_000) for cell in cells]
        assert bounds(normalised, 51) == bounds(cells, 51)

    def test_equal_values_have_equal_bounds_in_whatever_order(self):
        rng = np.random.default_rng(2)
        cell = rng.integers(1, 5, 60).astype(float)
        order = rng.permutation(60)
        (plain,), (turned,) = bounds([cell], 51), bounds([cell[order]], 51)
        assert [np.array(side)[order].tolist() for side in plain] == list(turned)


def centres() -> BinCentres:
    return BinCentres(np.array([0.0, 1 / 3, 0.5, 2.0]), "log1p_cp10k", np.linspace(1, 90, 101))


class TestCentres:
    def test_survive_json_exactly(self):
        again = BinCentres.from_dict(json.loads(json.dumps(centres().to_dict())), 4)
        np.testing.assert_array_equal(again.values, centres().values)
        np.testing.assert_array_equal(again.num_genes, centres().num_genes)
        assert again.scale == "log1p_cp10k"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"values": [0.0, 1.0]}, "it has centres of 2 bins for 4 bins; take it as it was saved"),
            ({"values": 3.0}, "it has centres of 1 bins for 4 bins"),
            ({"values": ["a", "b"]}, "centres: could not convert"),
            ({"values": [0.0, 1.0, None, 2.0]}, "centres: not values, scale and num_genes; take it as it was saved"),
            ({"num_genes": [1.0, 2.0]}, "centres: not values, scale and num_genes"),
            ({"num_genes": [None] * 101}, "centres: not values, scale and num_genes"),
            ({"scale": "guess"}, "centres: not values, scale and num_genes"),
            ({"scale": ["as_given"]}, "centres: not values, scale and num_genes"),
        ],
    )
    def test_that_are_damaged_are_refused(self, change, words):
        with pytest.raises(DataError, match=f"state of tokenizer 'binned_expression' is damaged: {words}"):
            BinCentres.from_dict({**centres().to_dict(), **change}, 4)

    @pytest.mark.parametrize("key", ["values", "scale", "num_genes"])
    def test_that_lack_a_part_are_refused(self, key):
        state = centres().to_dict()
        del state[key]
        with pytest.raises(DataError, match=f"is damaged: centres: '{key}'; take it as it was saved"):
            BinCentres.from_dict(state, 4)

    def test_that_are_none_at_all_are_refused(self):
        with pytest.raises(DataError, match=r"is damaged: centres: .*; take it as it was saved"):
            BinCentres.from_dict("lost", 4)
