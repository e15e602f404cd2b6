from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.connectome import null_expression, surrogate_maps
from scmodelforge.connectome.nulls import morans_i
from tests.test_connectome.brains import brain


def smooth_maps(num_regions: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    coords = random.uniform(-50, 50, size=(num_regions, 3))
    waves = np.sin(coords @ random.normal(scale=0.03, size=(3, 6)))
    return waves + 0.1 * random.normal(size=waves.shape), coords


def test_morans_i_is_the_sum_over_pairs():
    maps, coords = smooth_maps(8)
    column = maps[:, 0] - maps[:, 0].mean()
    total = weights = 0.0
    for i in range(8):
        for j in range(8):
            if i != j:
                weight = 1 / np.linalg.norm(coords[i] - coords[j])
                total += weight * column[i] * column[j]
                weights += weight
    expected = 8 / weights * total / (column**2).sum()
    assert morans_i(maps, coords)[0] == pytest.approx(expected)


class TestSurrogates:
    def test_are_as_smooth_as_the_maps(self):
        maps, coords = smooth_maps()
        found = surrogate_maps(maps, coords, seed=3)
        np.testing.assert_allclose(morans_i(found, coords), morans_i(maps, coords), rtol=1e-8)
        assert not np.allclose(found, maps)

    def test_keep_means_and_the_covariances_of_genes(self):
        maps, coords = smooth_maps()
        found = surrogate_maps(maps, coords, seed=3)
        np.testing.assert_allclose(found.mean(axis=0), maps.mean(axis=0))
        np.testing.assert_allclose(np.cov(found.T), np.cov(maps.T))

    def test_say_little_about_the_maps(self):
        maps, coords = smooth_maps()
        alike = [np.corrcoef(surrogate_maps(maps, coords, seed=seed)[:, 0], maps[:, 0])[0, 1] for seed in range(200)]
        assert abs(np.mean(alike)) < 0.1

    def test_are_smoother_than_shuffled_maps(self):
        maps, coords = smooth_maps()
        shuffled = np.random.default_rng(1).permutation(maps)
        kept = surrogate_maps(maps, coords, seed=1, keep_values=True)
        assert (morans_i(kept, coords) > morans_i(shuffled, coords)).all()

    def test_can_keep_the_values_of_each_gene(self):
        maps, coords = smooth_maps()
        found = surrogate_maps(maps, coords, seed=3, keep_values=True)
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(maps, axis=0))

    def test_depend_on_the_seed_alone(self):
        maps, coords = smooth_maps()
        one, same, other = (surrogate_maps(maps, coords, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)

    def test_need_a_place_for_each_region(self):
        maps, coords = smooth_maps()
        coords[3] = coords[4]
        with pytest.raises(ValueError, match="a place of its own"):
            surrogate_maps(maps, coords)


def test_the_null_of_a_data_set_has_its_connectivity_and_values():
    data = brain(20)
    null = null_expression(data, seed=1)
    np.testing.assert_array_equal(null.Y, data.Y)
    np.testing.assert_array_equal(np.sort(null.X, axis=0), np.sort(data.X, axis=0))
    assert not np.array_equal(null.X, data.X)
    with pytest.raises(ValueError, match="needs coordinates"):
        null_expression(brain(20, coords=None))
