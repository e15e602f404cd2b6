"""Probes of gene vectors, and nearest genes, on genes of which it is known what they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.genes.gene_sets import GeneSetConfig, labelled_genes, read_gene_set
from scmodelforge.eval.genes.nearest import nearest_genes
from scmodelforge.eval.genes.probes import probe, stratified_folds
from scmodelforge.eval.genes.vectors import GeneVectors, random_vectors
from tests.test_eval.scoring import run
from tests.test_eval.test_genes.knowledge import GENES, NUM_TFS, inputs, modules, vectors, write_network

NAME = "gene_embedding_quality"


def write_labels(path, labels) -> str:
    rows = [f"{gene},{label}" for gene, label in zip(GENES, labels, strict=True)]
    path.write_text("\n".join(["gene,label", *rows, "elsewhere,a", ""]))
    return str(path)


@pytest.fixture
def halves(tmp_path) -> str:
    """Return a table with two labels that the vectors tell apart."""
    return write_labels(tmp_path / "halves.csv", np.where(modules() < 4, "low", "high"))


def noise(seed: int = 0) -> GeneVectors:
    return GeneVectors(GENES, np.random.default_rng(seed).normal(size=(len(GENES), 6)), counts=vectors().counts)


class TestGeneSets:
    def test_labels_that_vectors_show_are_read_off_them(self, halves):
        record = run(NAME, inputs(vectors()), gene_sets=[halves])["auroc_input_halves"]
        assert record.value > 0.99
        assert (record.n, record.n_skipped) == (80, 1)
        assert record.baselines["permuted_labels"] == pytest.approx(0.5, abs=0.15)
        assert set(record.baselines) == {"random", "expression", "svd", "permuted_labels"}
        assert record.params["converged"]
        json.dumps(record.to_dict(), allow_nan=False)

    def test_noise_is_at_chance(self, halves):
        record = run(NAME, inputs(noise()), gene_sets=[halves])["auroc_input_halves"]
        assert record.value == pytest.approx(0.5, abs=0.12)
        assert record.interval[0] < 0.5 < record.interval[1]

    def test_as_many_other_genes_or_labels_are_told_apart(self, tmp_path):
        low = modules() < 4
        exchanged = low.copy()
        exchanged[[0, 4]] = exchanged[[4, 0]]  # one gene of each label for one of the other
        scopes = []
        for own, genes in ((low, np.arange(76)), (low, np.arange(4, 80)), (exchanged, np.arange(76)),
                           (low, np.arange(76)[::-1])):  # fmt: skip
            path = write_labels(tmp_path / "halves.csv", np.where(own, "low", "high"))
            settings = {"gene_sets": [path], "nearest": ["gene020"], "num_repeats": 1}
            found = run(NAME, inputs(vectors().select(genes)), **settings)
            scopes.append([found[f"{name}"].params["scored_genes"] for name in
                           ("auroc_input_halves", "nearest_cosine_input")])  # fmt: skip
        labelled, near = zip(*scopes, strict=True)
        assert labelled[0] == labelled[3]
        assert len(set(labelled)) == 3
        assert near[0] == near[2] == near[3] != near[1]

    def test_each_of_several_labels_is_told_from_the_others(self, tmp_path):
        path = write_labels(tmp_path / "modules.csv", [f"m{number}" for number in modules()])
        record = run(NAME, inputs(vectors()), gene_sets=[path], num_repeats=1)["auroc_input_modules"]
        assert record.value > 0.95
        table = record.tables["per_label"]
        assert table["label"] == [f"m{number}" for number in range(NUM_TFS)]
        assert table["num_genes"] == [10] * NUM_TFS

    def test_factors_of_a_network_are_told_from_other_genes(self, tmp_path):
        network = str(write_network(tmp_path / "known.tsv"))
        rows = np.random.default_rng(0).normal(size=(len(GENES), 3))
        rows[:NUM_TFS, 0] += 8
        record = run(NAME, inputs(GeneVectors(GENES, rows)), tf_network=network, min_genes=5)["auroc_input_tf"]
        assert record.value > 0.97
        assert record.params["genes_of_label"] == {"other": len(GENES) - NUM_TFS, "transcription factor": NUM_TFS}

    def test_the_order_of_genes_does_not_matter(self, halves):
        order = np.random.default_rng(1).permutation(len(GENES))
        found = [
            run(NAME, inputs(each), gene_sets=[halves], num_repeats=1) for each in (noise(), noise().select(order))
        ]
        first, second = (each["auroc_input_halves"] for each in found)
        assert second.value == pytest.approx(first.value)
        assert second.interval == pytest.approx(first.interval)
        assert second.baselines == pytest.approx(first.baselines, abs=0.01)

    def test_baselines_stand_beside_the_model_alone(self, halves):
        found = run(NAME, inputs(vectors(), representation="untrained"), gene_sets=[halves])
        assert found["auroc_input_halves"].baselines == {}

    def test_constant_vectors_and_single_labels_are_skipped_by_name(self, halves, tmp_path):
        constant = GeneVectors(GENES, np.ones((len(GENES), 3)))
        record = run(NAME, inputs(constant), gene_sets=[halves])["auroc_input_halves"]
        assert (record.value, record.skipped_reason) == (None, "all genes have the same vector")
        one = write_labels(tmp_path / "one.csv", ["a"] * 75 + ["b"] * 5)
        record = run(NAME, inputs(vectors()), gene_sets=[one])["auroc_input_one"]
        assert record.value is None
        assert record.skipped_reason == "1 labels have 10 genes with vectors; two are needed"
        assert record.params["labels_left_out"] == ["b"]


class TestLabelledGenes:
    def test_genes_of_two_labels_are_left_out_and_counted(self):
        given = {"a": [*GENES[:10], GENES[20]], "b": [*GENES[10:20], GENES[20], "elsewhere"]}
        found = labelled_genes("x", given, vectors(), min_genes=5, max_genes=99, seed=0)
        assert found.codes.tolist() == [0] * 10 + [1] * 10
        assert (found.facts["genes_of_several_labels"], found.facts["genes_without_vector"]) == (1, 1)

    def test_many_genes_are_drawn_from_by_name(self):
        given = {"a": list(GENES[:40]), "b": list(GENES[40:])}
        order = np.random.default_rng(2).permutation(len(GENES))
        draws = []
        for genes in (vectors(), vectors().select(order)):
            found = labelled_genes("x", given, genes, min_genes=5, max_genes=7, seed=0)
            draws.append([genes.names[number] for number in found.genes])
        assert draws[0] == draws[1]
        assert len(draws[0]) == 14

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gene,kind\nA,x\n", "gene set 'x': no such column; set label_column to one of gene, kind"),
            ("gene,label\nA,\n", "no row of .* has a gene and a label"),
        ],
    )
    def test_tables_without_what_is_needed_are_refused(self, tmp_path, text, message):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises((ConfigError, DataError), match=message):
            read_gene_set(GeneSetConfig(path=str(tmp_path / "x.csv")))

    def test_a_missing_table_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="is not there; name a table of genes and labels"):
            read_gene_set(GeneSetConfig(path=str(tmp_path / "x.csv")))


class TestProbe:
    def test_no_gene_is_scored_by_a_probe_that_saw_it(self):
        """Labels that are noise, vectors that name each gene: whoever fits and scores the same genes is perfect."""
        codes = np.random.default_rng(0).integers(0, 2, len(GENES))
        found = probe(np.eye(len(GENES)), codes, GENES, num_folds=5, num_repeats=2, seed=0)
        assert np.nanmean(found.aurocs()) < 0.7
        for repeat in range(2):
            held = np.concatenate(found.genes[5 * repeat : 5 * repeat + 5])
            assert sorted(held) == list(range(len(GENES)))

    @pytest.mark.parametrize("num_labels", [2, 4])
    def test_labels_that_are_told_apart_by_far_are_no_ties(self, num_labels):
        codes = modules() % num_labels
        rows = 1e6 * np.repeat(np.eye(num_labels)[codes], 200, axis=1) + np.arange(len(codes))[:, None] * 1e4
        found = probe(rows, codes, GENES, num_folds=4, num_repeats=1, seed=0)
        assert (found.aurocs() > 0.95).all()
        assert all(len(ranking.starts) == len(ranking.order) for ranking in found.rankings)

    def test_weights_of_ones_change_nothing(self):
        codes = modules() % 2
        found = probe(vectors(spread=2).vectors, codes, GENES, num_folds=4, num_repeats=1, seed=0)
        np.testing.assert_array_equal(found.aurocs(), found.aurocs(np.ones(len(GENES), dtype=int)))

    def test_scores_are_those_of_scikit_learn(self):
        codes, rows = modules() % 2, vectors(spread=2).vectors
        found = probe(rows, codes, GENES, num_folds=4, num_repeats=1, seed=0)
        ranking, held = found.rankings[0], found.genes[0]
        scores = np.empty(len(held))
        scores[ranking.order] = -np.arange(len(held))
        assert len(ranking.starts) == len(held)  # no ties
        assert found.aurocs()[0] == pytest.approx(roc_auc_score(codes[held], scores))

    def test_folds_share_each_label_and_change_with_the_repeat(self):
        codes = np.repeat([0, 1, 2], [50, 23, 7])
        first, second = (stratified_folds(codes, GENES, num_folds=5, repeat=each, seed=0) for each in (0, 1))
        for code in range(3):
            sizes = np.bincount(first[codes == code], minlength=5)
            assert sizes.max() - sizes.min() <= 1
        assert (first != second).any()


class TestNearest:
    ROWS = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]])

    def test_genes_come_by_their_cosine(self):
        genes = GeneVectors(("a", "b", "c", "d"), self.ROWS)
        table = nearest_genes(genes, ["a", "nobody"], 2)
        assert (table["gene"], table["rank"], table["neighbour"]) == (["a", "a"], [1, 2], ["b", "c"])
        np.testing.assert_allclose(table["cosine"], [0.9 / np.hypot(0.9, 0.1), 0], atol=1e-7)

    def test_genes_are_called_by_their_symbols(self):
        ids = ("ENSG00000136997", "ENSG00000141510")
        table = nearest_genes(GeneVectors(ids, self.ROWS[:2]), ["MYC"])
        assert (table["gene"], table["neighbour"]) == (["MYC"], ["TP53"])

    def test_the_benchmark_gives_the_table(self):
        genes = GeneVectors(("a", "b", "c", "d"), self.ROWS)
        record = run(NAME, inputs(genes), nearest=["a", "c", "nobody"], num_nearest=1)["nearest_cosine_input"]
        assert record.tables["nearest"]["neighbour"] == ["b", "b"]
        assert (record.n, record.n_skipped, record.skipped_reason) == (2, 1, "genes without a vector: nobody")
        assert record.is_detail

    def test_no_known_gene_is_refused_and_the_benchmark_goes_on(self):
        record = run(NAME, inputs(vectors()), nearest=["nobody"])["nearest_cosine_input"]
        assert (record.value, record.skipped_reason) == (None, "genes without a vector: nobody")
        with pytest.raises(DataError, match=r"none of the 1 genes .nobody. has a vector"):
            nearest_genes(vectors(), ["nobody"])


class TestVectors:
    def test_random_ones_belong_to_the_name(self):
        rows = random_vectors(GENES, 200, seed=0)
        np.testing.assert_array_equal(rows[::-1], random_vectors(GENES[::-1], 200, seed=0))
        assert rows.mean() == pytest.approx(0, abs=0.05)
        assert rows.std() == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize(
        ("names", "rows", "message"),
        [
            (("a", "a"), np.ones((2, 2)), "1 genes have several vectors"),
            (("a", "b"), np.ones((3, 2)), "2 genes and vectors of shape"),
            (("a", "b"), np.array([[1, 2], [np.nan, 0]]), r"1 of 2 genes are NaN or infinite .the first: b"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, names, rows, message):
        with pytest.raises(DataError, match=message):
            GeneVectors(names, rows)


class TestRefused:
    def test_nothing_to_look_for(self):
        with pytest.raises(ConfigError, match="has nothing to look for; name tables"):
            run(NAME, inputs(vectors()))

    def test_fewer_genes_than_folds(self, halves):
        with pytest.raises(ConfigError, match=r"min_genes .4. is below num_folds .5."):
            run(NAME, inputs(vectors()), gene_sets=[halves], min_genes=4)

    def test_two_sets_of_one_name(self, halves):
        with pytest.raises(ConfigError, match="two gene sets are called 'halves'"):
            run(NAME, inputs(vectors()), gene_sets=[halves, halves])
