"""Benchmarks on cells whose scores are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge._errors import DataError
from tests.test_eval.scoring import clustered, run, shuffled, split, unstructured, values

ALL = ["batch_integration", "cell_type_annotation", "embedding_quality"]
BIOLOGY = ["nmi_kmeans", "ari_kmeans", "silhouette_label"]


class TestEveryBenchmark:
    @pytest.mark.parametrize("name", ALL)
    def test_gives_the_same_numbers_in_any_order_of_cells(self, name):
        inputs = unstructured(num_cells=120)
        assert values(run(name, shuffled(inputs))) == values(run(name, inputs))

    @pytest.mark.parametrize("name", ALL)
    def test_gives_the_same_numbers_again(self, name):
        assert values(run(name, clustered())) == values(run(name, clustered()))

    @pytest.mark.parametrize("name", ALL)
    def test_needs_labels(self, name):
        inputs = clustered()
        bare = split(np.concatenate([inputs.train.embeddings, inputs.heldout.embeddings]))
        with pytest.raises(DataError, match=f"'{name}' needs a label.*label_column"):
            run(name, bare)

    @pytest.mark.parametrize("name", ALL)
    def test_needs_one_labelled_cell(self, name):
        inputs = clustered()
        points = np.concatenate([inputs.train.embeddings, inputs.heldout.embeddings])
        with pytest.raises(DataError, match="has a label"):
            run(name, split(points, [""] * len(points), ["b"] * len(points)))

    @pytest.mark.parametrize("name", ALL)
    def test_skips_every_metric_by_name_for_a_constant_embedding(self, name):
        inputs = clustered()
        labels = np.concatenate([inputs.train.labels, inputs.heldout.labels])
        batches = np.concatenate([inputs.train.batches, inputs.heldout.batches])
        found = run(name, split(np.ones((len(labels), 4)), labels, batches))
        assert set(found) == set(run(name, inputs))
        for record in found.values():
            assert record.value is None
            assert "same embedding" in record.skipped_reason
            assert record.n_skipped == len(inputs.heldout)

    @pytest.mark.parametrize("name", ALL)
    def test_skips_every_metric_of_labels_by_name_for_one_label(self, name):
        rng = np.random.default_rng(0)
        found = run(name, split(rng.normal(size=(60, 4)), ["only"] * 60, ["b0", "b1"] * 30))
        of_batches = {"silhouette_batch", "bras", "kbet_per_label", "batch_correction", "ilisi_knn", "pcr_comparison"}
        skipped = [record for metric, record in found.items() if metric not in of_batches]
        assert skipped
        for record in skipped:
            assert record.value is None
            assert "two labels are needed" in record.skipped_reason

    @pytest.mark.parametrize("name", ALL)
    def test_counts_cells_without_a_label(self, name):
        inputs = clustered()
        labels = inputs.heldout.labels.copy()
        labels[:7] = ""
        found = run(name, replace(inputs, heldout=replace(inputs.heldout, labels=labels)))
        given = [record for record in found.values() if record.value is not None]
        assert given
        for record in given:
            assert (record.n, record.n_skipped) == (len(labels) - 7, 7)
            assert "without a label" in record.skipped_reason

    @pytest.mark.parametrize("name", ALL)
    def test_takes_seeds_of_any_size(self, name):
        assert run(name, replace(clustered(), seed=2**40))


class TestEmbeddingQuality:
    def test_perfect_clusters_score_one(self):
        found = run("embedding_quality", clustered(spread=1e-3))
        for metric in BIOLOGY:
            assert found[metric].value == pytest.approx(1, abs=1e-3)
            low, high = found[metric].interval
            assert low <= found[metric].value <= high

    def test_noise_scores_at_chance(self):
        found = run("embedding_quality", unstructured())
        assert found["nmi_kmeans"].value < 0.06
        assert abs(found["ari_kmeans"].value) < 0.03
        assert found["silhouette_label"].value == pytest.approx(0.5, abs=0.02)

    def test_permuted_labels_destroy_the_scores(self):
        inputs = clustered()
        labels = np.random.default_rng(0).permutation(inputs.heldout.labels)
        found = run("embedding_quality", replace(inputs, heldout=replace(inputs.heldout, labels=labels)))
        assert found["nmi_kmeans"].value < 0.1
        assert found["ari_kmeans"].value < 0.1
        assert found["silhouette_label"].value < 0.55

    def test_says_how_it_clustered(self):
        params = run("embedding_quality", clustered(), kmeans_starts=2)["nmi_kmeans"].params
        assert (params["k"], params["n_init"], params["init"], params["seed"]) == (3, 2, "k-means++", 3)

    def test_copies_of_cells_are_counted_and_clusters_that_are_lacking_said(self):
        points = np.repeat(np.eye(2), 30, axis=0)
        points = np.concatenate([points, points])
        labels = [f"type{i % 3}" for i in range(120)]
        params = run("embedding_quality", split(points, labels))["ari_kmeans"].params
        assert (params["num_duplicates"], params["k"], params["n_found"]) == (58, 3, 2)

    def test_does_not_look_at_training_cells(self):
        inputs = clustered()
        other = replace(inputs.train, embeddings=-inputs.train.embeddings)
        assert values(run("embedding_quality", replace(inputs, train=other))) == values(
            run("embedding_quality", inputs)
        )


class TestBatchIntegration:
    def test_never_gives_the_batch_score_without_the_biology_scores(self):
        assert {"silhouette_batch", *BIOLOGY} < set(run("batch_integration", clustered()))

    def test_is_the_mean_over_labels_of_one_minus_the_absolute_silhouette(self):
        from sklearn.metrics import silhouette_samples

        cells = (inputs := unstructured(num_cells=160)).heldout
        means = []
        for label in np.unique(cells.labels):
            rows = cells.labels == label
            scores = silhouette_samples(cells.embeddings[rows].astype(float), cells.batches[rows])
            means.append((1 - np.abs(scores)).mean())
        found = run("batch_integration", inputs)["silhouette_batch"]
        assert found.value == pytest.approx(np.mean(means), abs=1e-9)

    def test_mixed_batches_score_high_and_separate_ones_low(self):
        inputs = clustered(spread=1.0)
        assert run("batch_integration", inputs)["silhouette_batch"].value > 0.9
        shift = np.where(inputs.heldout.batches == "b0", 50.0, 0.0)[:, None]
        apart = replace(inputs.heldout, embeddings=inputs.heldout.embeddings + shift)
        assert run("batch_integration", replace(inputs, heldout=apart))["silhouette_batch"].value < 0.2

    def test_gives_every_label_the_same_weight_in_score_and_interval(self):
        rng = np.random.default_rng(0)
        batches = rng.choice(["b0", "b1"], size=300)
        is_rare = np.arange(300) % 10 == 0
        points = rng.normal(size=(300, 4)) + 50 * (is_rare & (batches == "b0"))[:, None]
        record = run("batch_integration", split(points, np.where(is_rare, "rare", "common"), batches))[
            "silhouette_batch"
        ]
        assert record.value == pytest.approx(0.5, abs=0.05)
        assert record.interval[0] < record.value < record.interval[1]

    def test_skips_one_batch_by_name_and_keeps_the_biology_scores(self):
        inputs = clustered()
        one = replace(inputs.heldout, batches=np.array(["b0"] * len(inputs.heldout)))
        found = run("batch_integration", replace(inputs, heldout=one))
        assert found["silhouette_batch"].value is None
        assert "two batches are needed" in found["silhouette_batch"].skipped_reason
        assert found["nmi_kmeans"].value is not None

    def test_leaves_out_and_counts_labels_of_one_batch(self):
        inputs = clustered()
        batches = inputs.heldout.batches.copy()
        is_first = inputs.heldout.labels == "type0"
        batches[is_first] = "b0"
        found = run("batch_integration", replace(inputs, heldout=replace(inputs.heldout, batches=batches)))
        record = found["silhouette_batch"]
        assert record.params["labels_left_out"] == ["type0"]
        assert record.n_skipped == is_first.sum()
        assert "type0" in record.skipped_reason

    def test_skips_batches_nested_in_labels_by_name(self):
        inputs = clustered()
        nested = replace(inputs.heldout, batches=inputs.heldout.labels)
        record = run("batch_integration", replace(inputs, heldout=nested))["silhouette_batch"]
        assert record.value is None
        assert "no label has cells of several batches" in record.skipped_reason

    def test_needs_batches(self):
        inputs = clustered()
        with pytest.raises(DataError, match=r"needs a batch.*data\.batch_column"):
            run("batch_integration", replace(inputs, heldout=replace(inputs.heldout, batches=None)))
