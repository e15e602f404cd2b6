"""Candidates, and scores of pairs whose results are known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.eval.networks.edges import EdgeTable
from scmodelforge.eval.networks.matching import Network, match_edges
from scmodelforge.eval.networks.score_matrices import (
    cosine_scores,
    expression_scores,
    pearson_scores,
    random_scores,
    target_degree_scores,
    tf_degree_scores,
)
from scmodelforge.eval.networks.scores import per_tf_scores, permuted_network, rank_pairs
from scmodelforge.eval.ranking import RANKING_METRICS


def table(*pairs: tuple[str, str]) -> EdgeTable:
    tfs, targets = (np.array(end) for end in zip(*pairs, strict=True))
    return EdgeTable("known", tfs, targets, np.zeros(len(pairs), dtype=np.int8), {"rows": len(pairs)})


def drawn(num_genes: int = 60, num_tfs: int = 12, share: float = 0.1, *, seed: int = 0) -> tuple[Network, list[str]]:
    rng = np.random.default_rng(seed)
    genes = [f"gene{number:03d}" for number in range(num_genes)]
    pairs = [(genes[t], genes[g]) for t in range(num_tfs) for g in range(num_genes) if rng.random() < share]
    return match_edges(table(*pairs), genes), genes


class TestCandidates:
    def test_are_pairs_of_a_measured_factor_with_a_known_edge_and_another_gene(self):
        network = match_edges(table(("A", "B"), ("A", "X"), ("B", "Y"), ("X", "C"), ("C", "C")), ["C", "B", "A"])
        assert network.tf_names == ("A",)
        assert network.truth.tolist() == [[False, True, False]]
        assert network.is_candidate.tolist() == [[True, True, False]]
        counted = {"edges_of_unmeasured_genes": 3, "edges_to_self": 1, "edges_scored": 1, "tfs_in_network": 4,
                   "tfs_scored": 1, "tfs_unmeasured": 1, "targets_unmeasured": 2}  # fmt: skip
        assert counted.items() <= network.facts.items()

    def test_genes_are_found_by_symbol_ensembl_id_and_alias(self):
        genes = ["ENSG00000136997", "ENSG00000141510"]  # MYC, TP53
        network = match_edges(table(("MYC", "TP53"), ("MYC", "ENSG00000141510.3")), genes)
        assert (network.tf_names, network.facts["edges_merged"]) == (("MYC",), 1)
        assert network.truth.tolist() == [[False, True]]
        assert match_edges(table(("P53", "MYC")), genes).truth.tolist() == [[True, False]]
        assert len(match_edges(table(("MYC", "TP53")), genes, exact=True).tfs) == 0

    def test_genes_of_mice_are_not_taken_for_human_ones(self):
        assert len(match_edges(table(("Myc", "Trp53")), ["MYC", "TP53"]).tfs) == 0

    def test_of_another_network_are_left_out(self):
        genes = ["A", "B", "C", "D"]
        chosen = match_edges(table(("A", "B"), ("A", "C"), ("D", "A")), genes)
        scored = match_edges(table(("A", "B"), ("B", "C")), genes)
        rest = chosen.without(scored)
        assert rest.truth.tolist() == [[False, False, True, False], [True, False, False, False]]
        assert not rest.is_candidate[0, 1]
        assert rest.is_candidate.sum() == chosen.is_candidate.sum() - 1


class TestRankedPairs:
    def test_the_network_itself_is_found_perfectly(self):
        network, _ = drawn()
        found = rank_pairs(network.truth.astype(float), network).scores()
        density = network.truth.sum() / network.is_candidate.sum()
        assert (found["auroc"], found["auprc"]) == (1, 1)
        assert found["epr"] == pytest.approx(1 / density)
        assert found["auprc_ratio"] == pytest.approx(1 / density)

    def test_random_scores_are_at_chance(self):
        network, genes = drawn(num_genes=300, num_tfs=60)
        found = [rank_pairs(random_scores(genes, network.tfs, seed=seed), network).scores() for seed in range(10)]
        means = {name: np.mean([each[name] for each in found]) for name in RANKING_METRICS}
        assert means["auroc"] == pytest.approx(0.5, abs=0.01)
        assert means["auprc_ratio"] == pytest.approx(1, abs=0.05)
        assert means["epr"] == pytest.approx(1, abs=0.1)

    def test_constant_scores_are_at_chance_exactly(self):
        network, _ = drawn()
        found = rank_pairs(np.ones(network.truth.shape), network).scores()
        assert [found[name] for name in ("auroc", "auprc_ratio", "epr")] == pytest.approx([0.5, 1, 1])

    def test_pairs_of_a_gene_with_itself_never_count(self):
        network, _ = drawn()
        scores = network.truth.astype(float)
        scores[np.arange(len(network.tfs)), network.tfs] = 99
        assert rank_pairs(scores, network).scores()["auprc"] == 1

    def test_the_order_of_genes_does_not_matter(self):
        network, genes = drawn()
        rng = np.random.default_rng(1)
        vectors, order = rng.normal(size=(len(genes), 5)), rng.permutation(len(genes))
        names = [(genes[tf], genes[g]) for tf, g in zip(*np.nonzero(_square(network)), strict=True)]
        other = match_edges(table(*names), [genes[number] for number in order])
        first = rank_pairs(cosine_scores(vectors, network.tfs), network)
        second = rank_pairs(cosine_scores(vectors[order], other.tfs), other)
        assert first.scores() == pytest.approx(second.scores())
        draws = [each.bootstrap(seed=0, purpose="x", resamples=5) for each in (first, second)]
        for name in RANKING_METRICS:
            np.testing.assert_allclose(draws[0][name], draws[1][name])
        one, two = (random_scores(each.genes, each.tfs, seed=3) for each in (network, other))
        np.testing.assert_array_equal(one[:, order], two)
        permuted = [permuted_network(each, seed=3) for each in (network, other)]
        np.testing.assert_array_equal(permuted[0][:, order], permuted[1])

    def test_a_bootstrap_is_over_factors(self):
        """A score that is right of half of the factors and wrong of the others, each of which has many pairs."""
        network, _ = drawn(num_genes=300, num_tfs=10, share=0.2)
        scores = np.where(np.arange(10)[:, None] % 2, 1, -1) * network.truth.astype(float)
        draws = rank_pairs(scores, network).bootstrap(seed=0, purpose="x")["auroc"]
        assert draws.std() > 0.08  # over pairs it would be a tenth of that
        assert draws.mean() == pytest.approx(0.5, abs=0.05)

    def test_a_permuted_network_keeps_the_number_of_targets_and_destroys_what_was_found(self):
        network, _ = drawn(num_genes=300, num_tfs=40)
        permuted = permuted_network(network, seed=0)
        assert permuted.sum(axis=1).tolist() == network.truth.sum(axis=1).tolist()
        assert sorted(permuted.sum(axis=0)) == sorted(network.truth.sum(axis=0))
        assert rank_pairs(network.truth.astype(float), network).scores(permuted)["auroc"] == pytest.approx(0.5, abs=0.1)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_score_that_is_no_number_is_refused(self, bad):
        network, _ = drawn()
        scores = np.zeros(network.truth.shape)
        scores[0, 5] = bad
        with pytest.raises(DataError, match=r"1 of .* scores of pairs are NaN or infinite"):
            rank_pairs(scores, network)

    def test_scores_of_other_pairs_are_refused(self):
        network, _ = drawn()
        with pytest.raises(DataError, match="for the network 'known' of shape"):
            rank_pairs(np.zeros((2, 3)), network)


class TestPerTf:
    def test_scores_each_factor_among_all_other_genes(self):
        genes = ["A", "B", "C", "D"]
        network = match_edges(table(("A", "B"), ("A", "C"), ("B", "C"), ("B", "D")), genes)
        scores = np.array([[9, 2, 3, 1], [1, 9, 0, 0.5]], dtype=float)
        found = per_tf_scores(scores, network, min_targets=2)
        assert (found["tf"], found["num_targets"], found["auroc"]) == (["A", "B"], [2, 2], [1.0, 0.0])

    def test_leaves_out_factors_with_few_targets(self):
        network = match_edges(table(("A", "B"), ("A", "C"), ("B", "C")), ["A", "B", "C", "D"])
        assert per_tf_scores(np.zeros((2, 4)), network, min_targets=2)["tf"] == ["A"]

    def test_a_factor_that_targets_every_gene_has_no_score(self):
        network = match_edges(table(("A", "B"), ("A", "C")), ["A", "B", "C"])
        assert per_tf_scores(np.zeros((1, 3)), network, min_targets=1)["auroc"] == [None]


class TestScoreMatrices:
    def test_cosines(self):
        vectors = np.array([[1, 0], [1, 1], [0, 0], [-2, 0]], dtype=np.float32)
        np.testing.assert_allclose(cosine_scores(vectors, np.array([0])), [[1, 0.5**0.5, 0, -1]])

    def test_correlations_are_those_of_numpy(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(2, size=(40, 90)).astype(float)
        counts[:, 7] = 0
        logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num(np.abs(np.corrcoef(logged.T)))
        found = pearson_scores(sp.csr_matrix(counts), np.arange(90))
        np.testing.assert_allclose(found, expected, atol=1e-10)

    def test_a_gene_that_does_not_vary_correlates_with_none(self):
        counts = np.tile(np.array([[3.0, 1, 2]]), (5, 1))
        np.testing.assert_array_equal(pearson_scores(sp.csr_matrix(counts), np.array([0])), [[0, 0, 0]])

    def test_levels_of_expression(self):
        counts = np.array([[1.0, 3, 0], [1, 1, 0]])
        (row,) = expression_scores(sp.csr_matrix(counts), np.array([2]))
        expected = [(np.log1p(2500) + np.log1p(5000)) / 2, (np.log1p(7500) + np.log1p(5000)) / 2, 0]
        np.testing.assert_allclose(row, expected)

    def test_the_degree_of_a_gene_leaves_out_the_pair_itself(self):
        network = match_edges(table(("A", "C"), ("B", "C"), ("B", "D")), ["A", "B", "C", "D"])
        assert target_degree_scores(network).tolist() == [[0, 0, 1, 1], [0, 0, 1, 0]]
        assert tf_degree_scores(network).tolist() == [[1] * 4, [2] * 4]

    def test_of_equal_factors_degrees_tell_nothing_but_popularity(self):
        """Every factor targets the same genes: popularity finds all of them."""
        genes = [f"g{number}" for number in range(20)]
        network = match_edges(table(*[(genes[t], genes[g]) for t in range(4) for g in range(10, 15)]), genes)
        assert rank_pairs(target_degree_scores(network), network).scores()["auprc"] == 1


def _square(network: Network) -> np.ndarray:
    found = np.zeros((len(network.genes), len(network.genes)), dtype=bool)
    found[network.tfs] = network.truth
    return found
