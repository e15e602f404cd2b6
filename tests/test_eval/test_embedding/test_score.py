"""Every metric on cells whose scores are known, and what is said where one is not defined."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config import load_config
from scmodelforge.eval.base import BenchmarkInputs, Cells
from scmodelforge.eval.embedding import score
from scmodelforge.eval.embedding.aggregate import aggregates
from scmodelforge.eval.embedding.catalogue import AGGREGATES, METRICS, all_names
from tests.test_eval.scoring import run, values

CHEAP = [name for name, metric in METRICS.items() if metric.leiden is None]
EVERY = [*(METRICS if find_spec("leidenalg") else CHEAP), *AGGREGATES]
BIOLOGY = ["nmi_kmeans", "ari_kmeans", "silhouette_label", "isolated_labels_asw", "clisi_knn", "clisi_graph"]


def inputs_of(embeddings, labels, batches, **fields) -> BenchmarkInputs:
    """Hold out all cells; the cells before integration are these, with the batches set apart."""
    embeddings = np.asarray(embeddings, dtype=np.float32)
    codes = np.unique(np.asarray(batches, dtype=str), return_inverse=True)[1]
    cells = Cells(embeddings, labels=labels, batches=batches, positions=np.arange(len(embeddings)))
    given = {"reference": embeddings + 3 * codes[:, None], "label_key": "type", "batch_key": "batch", "seed": 3}
    return BenchmarkInputs("cells", cells.select(np.arange(0)), cells, **{**given, **fields})


def perfect(num_cells: int = 480) -> BenchmarkInputs:
    """Return three types far apart, each more than 90 cells, whose two batches are mixed."""
    rng = np.random.default_rng(0)
    codes = np.arange(num_cells) % 3
    points = 50 * np.eye(3, 6)[codes] + rng.normal(size=(num_cells, 6))
    return inputs_of(points, [f"type{code}" for code in codes], rng.choice(["b0", "b1"], size=num_cells))


def noise(num_cells: int = 400) -> BenchmarkInputs:
    rng = np.random.default_rng(1)
    labels = rng.permutation([f"type{i % 4}" for i in range(num_cells)])
    return inputs_of(rng.normal(size=(num_cells, 6)), labels, rng.choice(["b0", "b1"], size=num_cells))


def scored(inputs: BenchmarkInputs, metrics=EVERY, **settings):
    return run("batch_integration", inputs, metrics=list(metrics), **settings)


class TestNames:
    def test_settings_list_what_there_is(self):
        assert set(all_names()) == {*METRICS, *AGGREGATES}

    def test_an_unknown_metric_is_refused_in_one_line(self, tmp_path):
        (tmp_path / "run.yaml").write_text(
            "data: {paths: [a.h5ad]}\neval: {benchmarks: [{name: embedding_quality, metrics: [nmi]}]}\n"
        )
        with pytest.raises(ConfigError, match=r"metrics.*'nmi_kmeans'"):
            load_config(tmp_path / "run.yaml")

    def test_a_metric_listed_twice_is_refused(self):
        with pytest.raises(ValueError, match="listed twice; list each metric once"):
            scored(perfect(), ["bras", "bras"])


class TestOracles:
    def test_perfect_cells_score_one(self):
        found = scored(perfect())
        for name in (*BIOLOGY, "graph_connectivity_scib"):
            assert found[name].value == pytest.approx(1, abs=0.03), name
        for name in ("silhouette_batch", "bras", "kbet_per_label", "kbet_k50", "pcr_comparison"):
            assert found[name].value > 0.85, name
        assert found["ilisi_knn"].value > 0.8
        assert found["total"].value > 0.85

    def test_noise_is_at_chance_for_biology_and_mixes_batches_well(self):
        found = scored(noise())
        assert found["nmi_kmeans"].value < 0.06
        assert abs(found["ari_kmeans"].value) < 0.03
        assert found["silhouette_label"].value == pytest.approx(0.5, abs=0.02)
        assert found["clisi_knn"].value < 0.3  # four labels alike: 0, but for 30 neighbours in effect
        assert found["silhouette_batch"].value > 0.9
        assert found["ilisi_knn"].value > 0.9

    def test_batches_apart_score_low(self):
        inputs = perfect()
        shift = np.where(inputs.heldout.batches == "b0", 30.0, 0.0)[:, None]
        apart = replace(inputs.heldout, embeddings=inputs.heldout.embeddings + shift)
        found = scored(replace(inputs, heldout=apart))
        for name in ("silhouette_batch", "bras", "kbet_per_label", "kbet_k50", "ilisi_knn", "ilisi_graph"):
            assert found[name].value < 0.2, name

    def test_permuted_labels_destroy_biology(self):
        inputs = perfect()
        labels = np.random.default_rng(0).permutation(inputs.heldout.labels)
        found = scored(replace(inputs, heldout=replace(inputs.heldout, labels=labels)))
        kept = scored(inputs)
        for name in (*BIOLOGY, "graph_connectivity_scib", "graph_connectivity_directed"):
            assert found[name].value < kept[name].value - 0.2, name

    def test_the_order_of_cells_never_matters(self):
        inputs = noise(200)
        order = np.random.default_rng(0).permutation(200)
        other = replace(inputs, heldout=inputs.heldout.select(order), reference=inputs.reference[order])
        assert values(scored(other)) == values(scored(inputs))

    def test_the_names_of_labels_and_batches_never_matter(self):
        inputs = noise(200)
        names = {f"type{i}": f"x{9 - i}" for i in range(4)}
        cells = replace(
            inputs.heldout,
            labels=np.array([names[label] for label in inputs.heldout.labels]),
            batches=np.where(inputs.heldout.batches == "b0", "z", "a"),
        )
        first, second = scored(inputs), scored(replace(inputs, heldout=cells))
        for name in EVERY:
            assert second[name].value == pytest.approx(first[name].value, abs=1e-9), name


class TestIntervals:
    def test_scores_of_cells_have_one_that_holds_them(self):
        found = scored(noise(), CHEAP)
        for name in ("silhouette_label", "bras", "silhouette_batch", "ilisi_knn", "clisi_knn", "kbet_k50"):
            low, high = found[name].interval
            assert low <= found[name].value <= high, name
            assert low < high, name
        for name in ("graph_connectivity_scib", "pcr_comparison"):
            assert found[name].interval is None

    def test_is_given_over_donors_where_there_are_enough_of_them_else_over_batches(self):
        inputs = noise()
        donors = np.array([f"donor{i % 5}" for i in range(400)])
        with_donors = replace(inputs, heldout=replace(inputs.heldout, groups=donors), group_key="donor")
        record = scored(with_donors, ["silhouette_label"])["silhouette_label"]
        assert record.group_key == "donor"
        assert record.group_interval[0] < record.value < record.group_interval[1]
        assert "num_without_group" not in record.params
        some = replace(inputs, heldout=replace(inputs.heldout, groups=np.where(donors == "donor4", "", donors)))
        assert scored(some, ["silhouette_label"])["silhouette_label"].params["num_without_group"] == 80
        batches = np.array([f"b{i % 4}" for i in range(400)])
        record = scored(replace(inputs, heldout=replace(inputs.heldout, batches=batches)), ["bras"])["bras"]
        assert record.group_key == "batch"
        record = scored(inputs, ["bras"])["bras"]  # two batches
        assert (record.group_interval, record.group_key) == (None, None)


class TestAggregates:
    def test_are_the_means_of_the_listed_metrics_of_the_benchmarker(self):
        names = ["nmi_kmeans", "silhouette_label", "bras", "bras_furthest", "silhouette_batch", *AGGREGATES]
        found = scored(noise(), names)
        bio = np.mean([found["nmi_kmeans"].value, found["silhouette_label"].value])
        assert found["bio_conservation"].value == pytest.approx(bio)
        assert found["batch_correction"].value == pytest.approx(found["bras"].value)
        assert found["total"].value == pytest.approx(0.6 * bio + 0.4 * found["bras"].value)
        assert found["total"].params["metrics"] == ["nmi_kmeans", "silhouette_label", "bras"]
        assert found["total"].params["weights"] == {"bio_conservation": 0.6, "batch_correction": 0.4}

    def test_are_not_given_without_one_of_their_metrics(self):
        found = scored(replace(noise(), reference=None), ["nmi_kmeans", "bras", "pcr_comparison", *AGGREGATES])
        assert found["bio_conservation"].value is not None
        for name in ("batch_correction", "total"):
            assert found[name].value is None
            assert "pcr_comparison is not defined (there are no embeddings" in found[name].skipped_reason

    def test_say_a_reason_once(self):
        lacking = {"nmi_kmeans": None, "silhouette_label": None, "bras": None}
        found = aggregates(lacking, dict.fromkeys(lacking, "all held-out cells have the same embedding"))
        reason = found["bio_conservation"].reason
        assert reason == "nmi_kmeans, silhouette_label are not defined (all held-out cells have the same embedding)"
        assert aggregates({}, {})["total"].reason.count("none of its metrics is listed") == 1

    def test_need_metrics_of_both_kinds(self):
        found = aggregates({"bras": 0.5}, {"bras": None})
        assert found["batch_correction"].value == 0.5
        assert found["total"].value is None
        assert found["total"].reason == "no bio_conservation: none of its metrics is listed"


class TestBadInput:
    def test_one_batch_is_named(self):
        inputs = noise(120)
        one = replace(inputs, heldout=replace(inputs.heldout, batches=np.array(["b0"] * 120)))
        found = scored(one, CHEAP)
        for name in CHEAP:
            if METRICS[name].batches == 2:
                assert found[name].value is None
                assert "two batches are needed" in found[name].skipped_reason
            elif name != "isolated_labels_asw_scib":
                assert found[name].value is not None, name
        assert "none is isolated" in found["isolated_labels_asw_scib"].skipped_reason

    def test_as_many_labels_as_cells_are_no_test_of_clusters(self):
        points = np.random.default_rng(0).normal(size=(3, 4))
        found = scored(inputs_of(points, np.array(["a", "b", "c"]), ["b0", "b1", "b0"]), ["nmi_kmeans", "ari_kmeans"])
        for record in found.values():
            assert (record.value, record.n_skipped) == (None, 3)
            assert record.skipped_reason.startswith("every cell has a label of its own")

    def test_too_few_cells_for_the_neighbours_are_counted(self):
        found = scored(noise(60), CHEAP)
        for name in ("ilisi_knn", "clisi_knn", "ilisi_graph", "clisi_graph"):
            assert found[name].value is None
            assert found[name].skipped_reason.startswith("60 cells are too few: 90 neighbours")
            assert found[name].n_skipped == 60
        assert found["kbet_k50"].value is not None

    @pytest.mark.parametrize("metrics", [CHEAP])
    def test_copies_of_cells_give_numbers_and_are_counted(self, metrics):
        rng = np.random.default_rng(0)
        points = np.repeat(rng.normal(size=(20, 4)), 10, axis=0)
        found = scored(inputs_of(points, np.repeat(["a", "b"], 100), ["b0", "b1"] * 100), metrics)
        for name in metrics:
            record = found[name]
            assert record.value is None or np.isfinite(record.value), name
            assert record.value is not None or record.skipped_reason, name
        assert found["silhouette_label"].params["num_duplicates"] == 180

    def test_labels_of_few_cells_are_left_out_and_counted(self):
        inputs = noise(200)
        labels = inputs.heldout.labels.copy()
        labels[:3] = "rare"
        record = scored(replace(inputs, heldout=replace(inputs.heldout, labels=labels)), ["kbet_per_label"])
        record = record["kbet_per_label"]
        assert record.params["labels_left_out"] == ["rare"]
        assert record.n_skipped >= 3
        assert "rare" in record.skipped_reason

    def test_categories_without_cells_do_not_count(self):
        import pandas as pd

        inputs = noise(200)
        cells = replace(
            inputs.heldout,
            labels=pd.Categorical(inputs.heldout.labels, categories=[*np.unique(inputs.heldout.labels), "none"]),
            batches=pd.Categorical(inputs.heldout.batches, categories=["b0", "b1", "b2"]),
        )
        assert values(scored(replace(inputs, heldout=cells), CHEAP)) == values(scored(inputs, CHEAP))

    def test_cells_without_a_batch_are_left_out_where_batches_matter(self):
        inputs = noise(200)
        batches = inputs.heldout.batches.copy()
        batches[:20] = ""
        found = scored(replace(inputs, heldout=replace(inputs.heldout, batches=batches)), ["bras", "silhouette_label"])
        assert (found["bras"].n, found["bras"].n_skipped) == (180, 20)
        assert found["bras"].skipped_reason == "20 cells without a batch"
        assert (found["silhouette_label"].n, found["silhouette_label"].n_skipped) == (200, 0)

    def test_a_reference_of_other_cells_or_with_nan_is_refused(self):
        inputs = noise(40)
        with pytest.raises(DataError, match="39 reference rows for 40 held-out cells"):
            replace(inputs, reference=inputs.reference[1:])
        with pytest.raises(DataError, match="'reference' embeddings of 1 of 40 cells are NaN"):
            replace(inputs, reference=np.where(np.arange(40)[:, None] == 3, np.nan, inputs.reference))

    def test_isolated_labels_name_the_labels_and_count_their_cells(self):
        inputs = noise(200)
        batches = np.where(inputs.heldout.labels == "type2", "b0", inputs.heldout.batches)
        found = scored(replace(inputs, heldout=replace(inputs.heldout, batches=batches)), CHEAP)
        for name in ("isolated_labels_asw", "isolated_labels_asw_scib"):
            assert found[name].params["isolated_labels"] == ["type2"]
            assert (found[name].n, found[name].n_skipped) == (50, 150)
        assert found["isolated_labels_asw"].value == found["isolated_labels_asw_scib"].value


class TestSample:
    def test_many_cells_are_sampled_by_label_and_the_record_says_so(self, monkeypatch):
        monkeypatch.setattr(score, "MOST_CELLS", 120)
        record = scored(noise(), ["silhouette_label"])["silhouette_label"]
        assert (record.n, record.n_skipped, record.subsample) == (120, 280, 400)
        assert record.params["subsampled_by"] == "label"
        assert record.params["seed"] == 3
        assert "120 of 400 cells are a sample" in record.skipped_reason

    def test_does_not_depend_on_the_order_of_cells(self, monkeypatch):
        monkeypatch.setattr(score, "MOST_CELLS", 120)
        inputs = noise()
        order = np.random.default_rng(0).permutation(400)
        other = replace(inputs, heldout=inputs.heldout.select(order), reference=inputs.reference[order])
        names = ["silhouette_label", "pcr_comparison"]
        assert values(scored(other, names)) == values(scored(inputs, names))


class TestBackend:
    def test_needs_its_package(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "scib_metrics", None)
        with pytest.raises(ImportError, match=r"pip install 'scmodelforge\[scib-metrics\]'"):
            scored(noise(120), ["bras"], backend="scib-metrics")
