"""The benchmark of networks on genes of which it is known what regulates them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config import load_config
from scmodelforge.eval.base import get_benchmark
from scmodelforge.eval.genes.vectors import GeneVectors
from tests.test_eval.scoring import run, values
from tests.test_eval.test_genes.knowledge import GENES, NUM_TFS, inputs, vectors, write_network

NAME = "gene_network_inference"


@pytest.fixture
def network(tmp_path) -> str:
    return str(write_network(tmp_path / "known.tsv"))


def metric(name: str) -> str:
    return f"{name}_cosine_input_known"


class TestScores:
    def test_vectors_that_know_the_network_find_it(self, network):
        found = run(NAME, inputs(vectors()), networks=[network])
        assert found[metric("auroc")].value > 0.99
        assert found[metric("auroc_per_tf")].value > 0.99
        assert found[metric("epr")].value > 0.8 * 80 / 9
        assert len(found) == 5

    def test_vectors_that_know_nothing_are_at_chance_and_so_is_a_permuted_network(self, network):
        found = run(NAME, inputs(vectors(spread=100)), networks=[network])[metric("auroc")]
        assert found.interval[0] < 0.5 < found.interval[1]
        known = run(NAME, inputs(vectors()), networks=[network])[metric("auroc")]
        assert known.baselines["permuted_network"] == pytest.approx(0.5, abs=0.1)

    def test_the_order_of_genes_does_not_matter(self, network):
        genes = vectors()
        order = np.random.default_rng(5).permutation(len(genes))
        first, second = (run(NAME, inputs(each), networks=[network]) for each in (genes, genes.select(order)))
        for name, (value, interval) in values(first).items():
            assert second[name].value == pytest.approx(value)
            assert second[name].interval == pytest.approx(interval)
            assert second[name].baselines == pytest.approx(first[name].baselines)

    def test_baselines_stand_beside_the_model_and_only_there(self, network):
        found = run(NAME, inputs(vectors()), networks=[network])[metric("auroc")]
        expected = {"random", "pearson", "svd", "expression", "target_degree", "tf_degree", "permuted_network"}
        assert set(found.baselines) == expected
        assert abs(found.baselines["random"] - 0.5) < 0.12
        assert (
            run(NAME, inputs(vectors(), representation="untrained"), networks=[network])[metric("auroc")].baselines
            == {}
        )

    def test_baselines_of_the_same_cells_are_kept_and_those_of_others_are_not(self, network):
        name = get_benchmark(NAME)
        benchmark = name(name.config_class(networks=[network]))

        def baselines(genes, split: str) -> dict[str, float]:
            (record, *_) = benchmark.run(inputs(genes, split_hash=split))
            return {each: value for each, value in record.baselines.items() if each != "permuted_network"}

        first = baselines(vectors(), "one")
        assert baselines(vectors(spread=3), "one") == first == baselines(vectors(seed=0), "two")
        assert baselines(vectors(seed=1), "three") != first
        assert baselines(vectors(), "one") == first

    def test_without_training_cells_the_baselines_that_need_them_are_named(self, network):
        found = run(NAME, inputs(vectors(counts=False)), networks=[network])[metric("auroc")]
        assert set(found.baselines) == {"random", "target_degree", "tf_degree", "permuted_network"}
        assert set(found.params["baselines_left_out"]) == {"pearson", "svd", "expression"}

    def test_what_was_scored_is_said(self, network):
        found = run(NAME, inputs(vectors()), networks=[network])
        record = found[metric("auroc")]
        assert (record.n, record.n_skipped) == (NUM_TFS, 1)
        assert "without a known edge between two genes" in record.skipped_reason
        assert record.params["tells_direction"] is False
        assert record.params["num_candidates"] == NUM_TFS * (len(GENES) - 1)
        assert record.params["unknown_pairs"] == "counted as no edge"
        assert record.tables["per_tf"]["tf"] == list(GENES[:NUM_TFS])
        assert [len(column) for column in record.tables["per_tf"].values()] == [NUM_TFS] * 6
        json.dumps(record.to_dict(), allow_nan=False)

    def test_as_many_other_edges_or_genes_are_told_apart(self, tmp_path):
        rows = [f"{GENES[0]}\t{GENES[20]}", f"{GENES[1]}\t{GENES[30]}", f"{GENES[0]}\t{GENES[31]}"]
        genes, scopes = vectors(), []
        subsets = [np.arange(70), np.r_[:32, 42:80]]
        for kept, others in ((rows[:2], genes), (rows[1:], genes), *((rows[:2], genes.select(own)) for own in subsets)):
            (tmp_path / "known.tsv").write_text("\n".join(["tf\ttarget", *kept, ""]))
            params = run(NAME, inputs(others), networks=[str(tmp_path / "known.tsv")])[metric("auroc")].params
            scopes.append((params["scored_edges"], params["scored_genes"]))
        assert scopes[0][1] == scopes[1][1] != scopes[2][1] != scopes[3][1]
        assert scopes[1][0] != scopes[0][0] == scopes[2][0] == scopes[3][0]
        mixed = genes.select(np.random.default_rng(0).permutation(len(genes)))
        (tmp_path / "known.tsv").write_text("\n".join(["tf\ttarget", *rows[1::-1], ""]))
        params = run(NAME, inputs(mixed), networks=[str(tmp_path / "known.tsv")])[metric("auroc")].params
        assert (params["scored_edges"], params["scored_genes"]) == scopes[0]

    def test_each_network_is_scored_by_itself(self, network):
        found = run(NAME, inputs(vectors()), networks=[network, {"path": network, "name": "again"}])
        again = found["auroc_cosine_input_again"]
        assert (again.value, len(found)) == (found[metric("auroc")].value, 10)


class TestNotDefined:
    def test_constant_vectors(self, network):
        genes = GeneVectors(GENES, np.ones((len(GENES), 4)))
        for record in run(NAME, inputs(genes), networks=[network]).values():
            assert record.value is None
            assert record.skipped_reason == "all genes have the same vector"
            assert record.n_skipped == NUM_TFS + 1

    def test_a_network_of_other_genes(self, tmp_path, network):
        (tmp_path / "mouse.tsv").write_text("tf\ttarget\nMyc\tTrp53\n")
        found = run(NAME, inputs(vectors()), networks=[str(tmp_path / "mouse.tsv"), network])
        assert found["auroc_cosine_input_mouse"].value is None
        assert (
            found["auroc_cosine_input_mouse"].skipped_reason == "no edge of 'mouse' is between two genes of the model"
        )
        assert found[metric("auroc")].value > 0.9

    def test_factors_with_few_targets_have_no_score_of_their_own(self, network):
        found = run(NAME, inputs(vectors()), networks=[network], min_targets=50)
        assert found[metric("auroc_per_tf")].value is None
        assert "fewer than 50 known targets" in found[metric("auroc_per_tf")].skipped_reason
        assert found[metric("auroc")].value > 0.9


class TestRefused:
    def test_no_network(self):
        with pytest.raises(ConfigError, match="has no network to score; name files of known edges"):
            run(NAME, inputs(vectors()))

    def test_two_networks_of_one_name(self, network):
        with pytest.raises(ConfigError, match="two networks are called 'known'"):
            run(NAME, inputs(vectors()), networks=[network, network])

    def test_choosing_a_head_by_the_scored_network(self, network):
        with pytest.raises(ConfigError, match="which is scored too; choose the head by another network"):
            run(NAME, inputs(vectors()), networks=[network], score="attention", select_on=network)

    def test_choosing_a_head_of_an_embedding(self, network):
        with pytest.raises(ConfigError, match="score is 'embedding'; leave it out"):
            run(NAME, inputs(vectors()), networks=[network], select_on=network)

    def test_vectors_of_another_kind(self, network):
        with pytest.raises(DataError, match="gene vectors are 'input', the benchmark wants 'contextual'"):
            run(NAME, inputs(vectors()), networks=[network], vectors="contextual")

    def test_no_model_to_ask(self, network):
        with pytest.raises(DataError, match="score 'attention' needs the model"):
            run(NAME, inputs(vectors()), networks=[network], score="attention")

    def test_a_missing_file_before_anything_is_computed(self):
        benchmark = get_benchmark(NAME)
        with pytest.raises(ConfigError, match="network 'x': no file or folder"):
            benchmark(benchmark.config_class(networks=["x.tsv"]))


def test_what_is_needed_depends_on_the_score(network):
    benchmark = get_benchmark(NAME)
    assert benchmark(benchmark.config_class(networks=[network])).needs == {"gene_embeddings"}
    with_model = benchmark(benchmark.config_class(networks=[network], score="insilico"))
    assert with_model.needs == {"gene_embeddings", "model"}


def test_settings_in_a_file(tmp_path):
    text = (
        "data: {paths: [lung.h5ad]}\neval:\n  benchmarks:\n    - name: gene_network_inference\n"
        "      networks: [a.tsv, {path: b.tsv, levels: [A, B]}]\n      select_on: c.tsv\n      score: attention\n"
    )
    (tmp_path / "run.yaml").write_text(text)
    (benchmark,) = load_config(tmp_path / "run.yaml").eval.benchmarks
    assert [each.path for each in benchmark.networks] == ["a.tsv", "b.tsv"]
    assert (benchmark.networks[1].levels, benchmark.select_on.path) == (["A", "B"], "c.tsv")
