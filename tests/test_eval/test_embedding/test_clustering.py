from __future__ import annotations

import random
from importlib.util import find_spec

import numpy as np
import pytest

from scmodelforge.eval.embedding.clustering import RESOLUTIONS, kmeans, lacks_leiden, leiden
from scmodelforge.eval.embedding.graph import umap_connectivities
from scmodelforge.eval.embedding.isolated import best_f1, isolated_labels
from scmodelforge.eval.neighbors import nearest_neighbors

needs_leiden = pytest.mark.skipif(not find_spec("leidenalg"), reason="needs the extra 'leiden'")


def test_kmeans_finds_clusters_that_stand_apart():
    codes = np.arange(60) % 3
    points = 10 * np.eye(3)[codes] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
    found = kmeans(points, 3, starts=2, seed=0)
    assert len({(code, cluster) for code, cluster in zip(codes, found, strict=True)}) == 3


@needs_leiden
@pytest.mark.parametrize("flavour", ["scib_metrics", "scib"])
class TestLeiden:
    def test_finds_clusters_that_stand_apart_and_more_at_higher_resolution(self, flavour):
        codes = np.arange(150) % 3
        points = 20 * np.eye(3)[codes] + np.random.default_rng(0).normal(size=(150, 3))
        graph = umap_connectivities(nearest_neighbors(points, 15))
        few, many = leiden(graph, (RESOLUTIONS[0], RESOLUTIONS[-1]), flavour)
        assert len({(code, cluster) for code, cluster in zip(codes, few, strict=True)}) == 3
        assert len(np.unique(many)) > 3

    def test_gives_the_same_clusters_again_and_leaves_other_draws_alone(self, flavour):
        graph = umap_connectivities(nearest_neighbors(np.random.default_rng(0).normal(size=(100, 4)), 15))
        random.seed(1)
        expected = random.random()
        random.seed(1)
        first, second = (leiden(graph, (1.0,), flavour)[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert random.random() == expected


def test_says_how_to_install_what_is_lacking(monkeypatch):
    monkeypatch.setattr("scmodelforge.eval.embedding.clustering.find_spec", lambda name: None)
    for flavour in ("scib_metrics", "scib"):
        assert "'igraph'; pip install 'scmodelforge[leiden]'" in lacks_leiden(flavour)


class TestIsolatedLabels:
    def test_are_those_of_the_fewest_batches(self):
        labels, batches = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 0, 1, 1])
        codes, are_fewer = isolated_labels(labels, batches)
        np.testing.assert_array_equal(codes, [1, 2])
        assert are_fewer

    def test_are_all_where_every_label_is_in_every_batch(self):
        codes, are_fewer = isolated_labels(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
        np.testing.assert_array_equal(codes, [0, 1])
        assert not are_fewer

    def test_best_f1_is_that_of_the_best_cluster_of_any_clustering(self):
        labels = np.array([0, 0, 0, 1, 1, 1])
        coarse, fine = np.zeros(6, dtype=int), np.array([0, 0, 1, 1, 1, 1])
        assert best_f1(labels, 0, [coarse]) == pytest.approx(2 * 3 / (6 + 3))
        assert best_f1(labels, 0, [coarse, fine]) == pytest.approx(2 * 2 / (2 + 3))
        assert best_f1(labels, 0, [coarse, labels]) == 1
