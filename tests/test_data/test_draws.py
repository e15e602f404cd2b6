"""Random draws that depend on what they are for and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.draws import cell_keys, generator, integers, mix, uniforms

MANY = 40_000
#: Five standard deviations of the mean of MANY draws from U[0, 1), whose own deviation is sqrt(1/12).
FIVE_SIGMA = 5 * np.sqrt(1 / 12 / MANY)

seeds = st.integers(0, 2**63)


class TestRange:
    @given(seeds, st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
    def test_uniforms_lie_in_the_half_open_unit_interval(self, seed, positions):
        draws = uniforms(cell_keys(seed, np.array(positions)), "mask")
        assert draws.dtype == np.float64
        assert ((draws >= 0) & (draws < 1)).all()

    @given(seeds, st.integers(1, 2**31))
    def test_integers_lie_below_their_bound(self, seed, high):
        draws = integers(cell_keys(seed, np.arange(50)), "gene", 0, high)
        assert draws.dtype == np.int64
        assert ((draws >= 0) & (draws < high)).all()

    def test_every_integer_below_the_bound_occurs(self):
        assert np.unique(integers(cell_keys(0, np.arange(1000)), "gene", 0, 7)).tolist() == list(range(7))


class TestIndependence:
    @given(seeds, st.permutations(range(12)), st.integers(1, 11))
    def test_order_and_batching_change_no_draw(self, seed, order, cut):
        whole = uniforms(cell_keys(seed, np.arange(12)), "mask")
        parts = [uniforms(cell_keys(seed, np.array(part)), "mask") for part in (order[:cut], order[cut:])]
        np.testing.assert_array_equal(np.concatenate(parts), whole[order])

    def test_a_cell_alone_draws_for_each_counter_what_it_draws_among_others(self):
        keys = cell_keys(3, np.arange(5))
        table = uniforms(keys[:, None], "mask", np.arange(9)[None, :])
        assert table.shape == (5, 9)
        for cell in range(5):
            np.testing.assert_array_equal(uniforms(keys[cell], "mask", np.arange(9)), table[cell])
        assert uniforms(keys, "mask", 4).tolist() == table[:, 4].tolist()

    def test_everything_a_draw_is_for_changes_it(self):
        positions = np.arange(MANY)
        streams = {
            "mask": uniforms(cell_keys(0, positions), "mask"),
            "other purpose": uniforms(cell_keys(0, positions), "gene"),
            "other counter": uniforms(cell_keys(0, positions), "mask", 1),
            "other seed": uniforms(cell_keys(1, positions), "mask"),
            "other cells": uniforms(cell_keys(0, positions + MANY), "mask"),
            "first pass": uniforms(cell_keys(0, positions, data_pass=0), "mask"),
            "second pass": uniforms(cell_keys(0, positions, data_pass=1), "mask"),
        }
        # correlations of independent streams are normal with deviation 1/sqrt(MANY)
        correlations = np.corrcoef(list(streams.values()))[np.triu_indices(len(streams), 1)]
        assert np.abs(correlations).max() < 5 / np.sqrt(MANY)

    def test_draws_of_neighbouring_cells_and_counters_are_unrelated(self):
        by_cell = uniforms(cell_keys(0, np.arange(MANY + 1)), "mask")
        by_counter = uniforms(cell_keys(0, np.zeros(1, int)), "mask", np.arange(MANY + 1))
        for draws in (by_cell, by_counter):
            assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 5 / np.sqrt(MANY)

    def test_the_same_is_drawn_again_and_nothing_global_is_used(self):
        np.random.seed(0)
        first = generator(5, "blocks", 2).permutation(20), uniforms(cell_keys(5, np.arange(4)), "mask")
        np.random.seed(1)
        again = generator(5, "blocks", 2).permutation(20), uniforms(cell_keys(5, np.arange(4)), "mask")
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)


class TestUniformity:
    @pytest.mark.parametrize("seed", [0, 1, 2**62])
    @pytest.mark.parametrize("over", ["cells", "counters"])
    def test_mean_and_tenths_are_as_expected(self, seed, over):
        if over == "cells":
            draws = uniforms(cell_keys(seed, np.arange(MANY), data_pass=0), "mask")
        else:
            draws = uniforms(cell_keys(seed, np.zeros(1, dtype=np.int64)), "mask", np.arange(MANY))
        assert abs(draws.mean() - 0.5) < FIVE_SIGMA
        observed = np.bincount((draws * 10).astype(int), minlength=10)
        # chi-square with 9 degrees of freedom exceeds 43 once in half a million
        assert ((observed - MANY / 10) ** 2 / (MANY / 10)).sum() < 43

    def test_integers_are_equally_frequent(self):
        observed = np.bincount(integers(cell_keys(0, np.arange(MANY)), "gene", 0, 8), minlength=8)
        # 7 degrees of freedom: once in half a million
        assert ((observed - MANY / 8) ** 2 / (MANY / 8)).sum() < 39

    def test_no_two_cells_share_a_key(self):
        keys = np.concatenate([cell_keys(0, np.arange(MANY), data_pass=number) for number in range(3)])
        assert len(np.unique(keys)) == 3 * MANY


class TestGenerator:
    def test_parts_and_seed_change_its_draws(self):
        draws = [
            generator(*parts).random()
            for parts in ((0, "blocks", 0), (0, "blocks", 1), (0, "window", 0), (1, "blocks", 0))
        ]
        assert len(set(draws)) == 4


class TestMix:
    def test_the_order_of_the_parts_matters(self):
        assert mix(1, 2) != mix(2, 1)
        assert mix(0) != mix(0, 0)

    def test_arrays_are_broadcast(self):
        table = mix("a", np.arange(3)[:, None], np.arange(4))
        assert table.shape == (3, 4)
        assert table.dtype == np.uint64
        assert table[2, 3] == mix("a", 2, 3)
