from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.connectome import pair_wise_split, region_folds, region_wise_split, split_regions
from scmodelforge.connectome.geometry import twin_groups
from scmodelforge.connectome.splits import STRATEGIES
from tests.test_connectome.brains import arguments, brain

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
seeds = st.integers(0, 1000)


def regions_of(data, indices) -> set[int]:
    return set(data.pairs(indices).ravel().tolist())


class TestRegionWise:
    @every_strategy
    @given(seed=seeds, num_regions=st.integers(12, 40), test_size=st.floats(0.2, 0.6))
    def test_no_region_of_a_scored_pair_is_trained_on(self, strategy, seed, num_regions, test_size):
        data = brain(num_regions)
        train, test = region_wise_split(data, test_size, strategy, seed)
        assert len(train)
        assert len(test)
        assert not regions_of(data, train) & regions_of(data, test)

    @every_strategy
    @given(seed=seeds)
    def test_mirrored_pairs_are_on_one_side(self, strategy, seed):
        split = split_regions(brain(20), 0.3, strategy, seed)
        for part in (split.train, split.inner, split.cross):
            assert set((part ^ 1).tolist()) == set(part.tolist())

    @every_strategy
    def test_every_pair_is_of_training_inner_or_cross(self, strategy):
        data = brain(20)
        split = split_regions(data, 0.3, strategy)
        together = np.concatenate([split.train, split.inner, split.cross])
        np.testing.assert_array_equal(np.sort(together), np.arange(len(data)))
        held = set(split.test_regions.tolist())
        assert all(len(held & set(pair)) == 1 for pair in data.pairs(split.cross).tolist())

    @every_strategy
    def test_is_the_same_for_a_seed_and_another_for_another(self, strategy):
        data = brain(30)
        same = [region_wise_split(data, 0.3, strategy, seed=4) for _ in range(2)]
        for one, other in zip(*same, strict=True):
            np.testing.assert_array_equal(one, other)
        others = {tuple(split_regions(data, 0.3, strategy, seed).test_regions) for seed in range(12)}
        assert len(others) > 1

    @pytest.mark.parametrize("strategy", ["random", "spatial"])
    def test_holds_out_the_share_that_is_asked_for(self, strategy):
        split = split_regions(brain(40), 0.25, strategy)
        assert len(split.test_regions) == 10

    @pytest.mark.parametrize(("cross", "in_train", "in_test"), [("drop", 0, 0), ("train", 1, 0), ("test", 0, 1)])
    def test_cross_pairs_go_where_they_are_sent(self, cross, in_train, in_test):
        data = brain(20)
        split = split_regions(data, 0.3)
        train, test = region_wise_split(data, 0.3, cross=cross)
        assert len(train) == len(split.train) + in_train * len(split.cross)
        assert len(test) == len(split.inner) + in_test * len(split.cross)

    def test_training_on_cross_pairs_is_warned_of(self, caplog):
        with caplog.at_level(logging.WARNING):
            region_wise_split(brain(20), cross="train")
        assert "connectivity of held-out regions" in caplog.text


class TestStrategies:
    @given(seed=seeds)
    def test_twins_are_held_out_together(self, seed):
        data = brain(20)  # regions k and 10 + k mirror each other
        held = set(split_regions(data, 0.3, "homotopic", seed).test_regions.tolist())
        assert {(row + 10) % 20 for row in held} == held

    def test_a_region_without_a_twin_stays_with_the_one_it_is_closest_to(self):
        given = arguments(13)  # seven left, six right
        given["coords"][6] = given["coords"][2] + 0.1
        groups = twin_groups(brain(13, coords=given["coords"]))
        assert groups[6] == groups[2] == groups[9]
        assert np.bincount(groups).tolist().count(3) == 1

    def test_labels_of_hemispheres_decide_before_coordinates(self):
        given = arguments(12)
        sides = ["R"] * 6 + ["L"] * 6  # x the wrong way round
        np.testing.assert_array_equal(
            twin_groups(brain(12, hemispheres=sides, coords=given["coords"] * (-1, 1, 1))), twin_groups(brain(12))
        )

    @given(seed=seeds)
    def test_a_spatial_block_has_no_hole(self, seed):
        data = brain(24)
        held = split_regions(data, 0.25, "spatial", seed).test_regions
        coords = data.coords.numpy()
        gaps = np.linalg.norm(coords[:, None] - coords[held][None], axis=-1)  # (R, held)
        left = np.setdiff1d(np.arange(24), held)
        # from one of them, every one held out is closer than every one that is not
        assert any(gaps[held, centre].max() <= gaps[left, centre].min() for centre in range(len(held)))

    @given(seed=seeds)
    def test_networks_are_held_out_whole(self, seed):
        data = brain(24)
        split = split_regions(data, 0.3, "network", seed)
        assert not set(data.networks[split.train_regions]) & set(data.networks[split.test_regions])


class TestFolds:
    @every_strategy
    @given(seed=seeds, num_folds=st.integers(2, 5))
    def test_hold_out_every_region_once_and_leak_none(self, strategy, seed, num_folds):
        data = brain(30)
        splits = region_folds(data, num_folds, strategy, seed)
        held = np.concatenate([split.test_regions for split in splits])
        np.testing.assert_array_equal(np.sort(held), np.arange(30))
        for split in splits:
            assert not regions_of(data, split.train) & regions_of(data, split.inner)
            assert not regions_of(data, split.train) & set(split.test_regions.tolist())

    @pytest.mark.parametrize("strategy", ["random", "spatial", "homotopic"])
    def test_are_of_equal_size(self, strategy):
        sizes = [len(split.test_regions) for split in region_folds(brain(30), 4, strategy)]
        assert max(sizes) - min(sizes) <= (2 if strategy == "homotopic" else 1)

    def test_by_network_are_one_for_each(self):
        splits = region_folds(brain(24), 4, "network")
        assert [split.name for split in splits] == ["Mot", "Sub", "Vis"]

    def test_keep_twins_together(self):
        for split in region_folds(brain(20), 4, "homotopic", seed=3):
            held = set(split.test_regions.tolist())
            assert {(row + 10) % 20 for row in held} == held

    def test_of_space_are_closer_than_by_chance(self):
        data = brain(40)
        coords = data.coords.numpy()

        def spread(strategy: str) -> float:
            return float(
                np.mean([coords[split.test_regions].std(axis=0).sum() for split in region_folds(data, 4, strategy)])
            )

        assert spread("spatial") < 0.8 * spread("random")


class TestPairWise:
    def test_keeps_mirrored_pairs_together_and_warns(self, caplog):
        data = brain(20)
        with caplog.at_level(logging.WARNING):
            train, test = pair_wise_split(data, 0.25, seed=1)
        assert "trains on both regions" in caplog.text
        assert set((test ^ 1).tolist()) == set(test.tolist())
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(data)))
        assert len(test) == pytest.approx(0.25 * len(data), abs=2)

    def test_sees_the_regions_that_it_scores(self):
        data = brain(20)
        train, test = pair_wise_split(data, 0.25)
        assert regions_of(data, test) <= regions_of(data, train)


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"strategy": "spatail"}, "strategy is 'spatail'; Did you mean 'spatial'"),
        ({}, {"cross": "keep"}, "cross is 'keep'; one of drop, train, test"),
        ({}, {"test_size": 1.5}, "test_size is 1.5; a share of the regions"),
        ({}, {"test_size": 0.99}, "leaves 0 regions to train on"),
        ({"coords": None}, {"strategy": "spatial"}, "a spatial split needs coordinates"),
        ({"coords": None}, {"strategy": "homotopic"}, "a homotopic split needs coordinates"),
        ({"networks": None}, {"strategy": "network"}, "a split by network needs networks"),
        ({"networks": ["Vis"] * 12}, {"strategy": "network"}, "all regions are of 'Vis'"),
        ({"hemispheres": ["L"] * 12}, {"strategy": "homotopic"}, "12 left and 0 right"),
    ],
)
def test_a_fault_is_one_line(changes, options, words):
    with pytest.raises(ValueError, match=words) as fault:
        region_wise_split(brain(**changes), **options)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_folds": 1}, "num_folds is 1"),
        ({"num_folds": 9}, "each side needs two"),
        ({"num_folds": 50, "strategy": "spatial"}, "there are 12 regions"),
    ],
)
def test_a_fault_of_folds_is_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        region_folds(brain(), **options)


def test_a_share_of_pairs_is_checked():
    with pytest.raises(ValueError, match="test_size is 0"):
        pair_wise_split(brain(), 0)
