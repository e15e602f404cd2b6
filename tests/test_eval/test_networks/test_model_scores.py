"""Scores by attention, perturbation and regression, of models and cells whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.insilico import EncodedCells
from scmodelforge.eval.networks.attention import attention_scores
from scmodelforge.eval.networks.genie3 import genie3_scores
from scmodelforge.eval.networks.matching import match_edges
from scmodelforge.eval.networks.model_scores import by_attention, by_cosine, by_perturbation
from scmodelforge.eval.networks.scores import rank_pairs
from tests.test_eval.test_genes.knowledge import vectors
from tests.test_eval.test_networks.test_scores import table

NUM_GENES, CLS = 12, 0
NAMES = tuple(f"gene{number:02d}" for number in range(NUM_GENES))
#: The factors are genes 0 and 1; each targets the genes of its parity.
EDGES = [(NAMES[tf], NAMES[gene]) for tf in range(2) for gene in range(2, NUM_GENES) if gene % 2 == tf]


class Attending:
    """A model of one layer with two heads; in head 1 a target attends its factor most, in head 0 all is noise.

    Its hidden states tell whether the factor of a gene is in the cell.
    """

    genes = NAMES
    gene_tokens = np.arange(1, NUM_GENES + 1)
    num_tokens = NUM_GENES + 1
    max_length = NUM_GENES + 1

    def __init__(self, num_cells: int = 12) -> None:
        self.rng = np.random.default_rng(0)
        rows = [np.sort(self.rng.permutation(NUM_GENES)[:9]) for _ in range(num_cells)]
        self.blocks = [self._block(rows[begin : begin + 5]) for begin in range(0, num_cells, 5)]
        self.noise = self.rng.random((num_cells, NUM_GENES + 1, NUM_GENES + 1))

    @staticmethod
    def _block(rows) -> TokenBlock:
        ids = np.concatenate([np.concatenate([[CLS], row + 1]) for row in rows]).astype(np.int32)
        offsets = np.arange(len(rows) + 1) * 10
        keys = np.zeros(len(rows), dtype=np.uint64)
        return TokenBlock(offsets, ids, np.ones(len(ids), dtype=np.float32), np.arange(len(rows)), keys)

    @property
    def num_cells(self) -> int:
        return sum(map(len, self.blocks))

    def limited(self, num_cells: int) -> Attending:
        return Attending(min(num_cells, self.num_cells))

    def cells(self):
        return self.blocks

    def attention(self, tokens: TokenBlock) -> list[np.ndarray]:
        ids = tokens.ids.reshape(len(tokens), -1)
        gene = ids - 1
        maps = np.stack([self.noise[: len(ids), : ids.shape[1], : ids.shape[1]]] * 2, axis=1)
        is_edge = (gene[:, None, :] % 2 == gene[:, :, None] % 2) & (gene[:, None, :] < 2) & (gene[:, :, None] >= 2)
        maps[:, 1] += 5 * (is_edge & (gene[:, None, :] >= 0))
        maps[..., CLS] += 100  # the special token is what all look at
        return [maps]

    def encode(self, tokens: TokenBlock) -> EncodedCells:
        gene = tokens.ids - 1
        cell = np.repeat(np.arange(len(tokens)), tokens.lengths)
        states = np.zeros((len(gene), 3))
        states[:, 0] = 1
        for tf in range(2):
            has_tf = np.isin(cell, cell[gene == tf])
            states[:, 1] += has_tf & (gene >= 2) & (gene % 2 == tf)
        return EncodedCells(np.ones((len(tokens), 2)), states)


def network(edges=EDGES, name: str = "known"):
    return match_edges(table(*edges), NAMES)


def auroc(scores) -> float:
    return rank_pairs(scores, network()).scores()["auroc"]


class TestAttention:
    def test_of_the_head_that_knows_finds_the_network(self):
        found = attention_scores(Attending(), network().tfs)
        assert found.means.shape == (1, 2, 2, 2, NUM_GENES)
        assert auroc(found.chosen(0, 1, "gene_attends_tf")) > 0.95
        assert auroc(found.chosen(0, 0, "gene_attends_tf")) < 0.8
        assert auroc(found.average()) > 0.9

    def test_the_other_direction_is_another_score(self):
        found = attention_scores(Attending(), network().tfs)
        assert auroc(found.chosen(0, 1, "tf_attends_gene")) < 0.8

    def test_ranks_know_nothing_of_special_tokens(self):
        """All look at the special token most; were it ranked, no gene could reach 1."""
        found = attention_scores(Attending(), network().tfs)
        assert found.chosen(0, 1, "gene_attends_tf").max() > 0.95
        assert found.means.min() >= 0

    def test_a_pair_of_no_cell_has_0_and_is_counted(self):
        found = attention_scores(Attending(num_cells=1), network().tfs)
        never = found.num_cells == 0
        assert never.any()
        assert (found.means[..., never] == 0).all()

    def test_a_head_is_chosen_by_other_edges_only(self):
        other = network([*EDGES[:4], (NAMES[0], NAMES[3])])
        scored = network(EDGES[:2] + EDGES[5:])
        scores, facts = by_attention(Attending(), NAMES, [scored], select_on=other)(scored)
        assert (facts["layer"], facts["head"], facts["direction"]) == (0, 1, "gene_attends_tf")
        assert scores.shape == scored.truth.shape

    def test_a_network_without_other_edges_chooses_nothing(self):
        with pytest.raises(DataError, match="no head can be chosen by it; set select_on"):
            by_attention(Attending(), NAMES, [network()], select_on=network(EDGES[:3]))(network())

    def test_a_model_without_attention_is_refused(self):
        model = Attending()
        model.attention = lambda tokens: []
        with pytest.raises(DataError, match="gives no attention; choose another score"):
            attention_scores(model, network().tfs)

    def test_without_cells_there_is_none(self):
        model = Attending()
        model.blocks = []
        with pytest.raises(DataError, match="no cells to look at attention in"):
            attention_scores(model, network().tfs)

    def test_genes_may_be_listed_in_another_order_than_the_model_has_them(self):
        names = NAMES[::-1][:10] + NAMES[:1] + NAMES[1:2]
        other = match_edges(table(*EDGES), names)
        first, _ = by_attention(Attending(), NAMES, [network()], select_on=None)(network())
        second, _ = by_attention(Attending(), names, [other], select_on=None)(other)
        np.testing.assert_allclose(second, first[:, [NAMES.index(name) for name in names]])


class TestPerturbation:
    def test_of_factors_finds_their_targets(self):
        scores, facts = by_perturbation(Attending(40), NAMES, [network()], kind="delete")(network())
        assert auroc(scores) == 1
        assert (facts["tfs_in_no_cell"], facts["num_cells"]) == (0, 40)

    def test_pairs_of_no_cell_have_no_effect_and_are_counted(self):
        scores, facts = by_perturbation(Attending(1), NAMES, [network()], kind="delete")(network())
        assert np.isfinite(scores).all()
        assert facts["pairs_in_no_cell"] > 0


def test_genes_that_the_model_does_not_know_are_refused():
    with pytest.raises(DataError, match=r"1 genes with vectors are none of the model's .the first: other"):
        by_perturbation(Attending(), (*NAMES, "other"), [network()], kind="delete")


def test_cosines_say_that_they_know_no_direction():
    genes = vectors()
    known = match_edges(table((genes.names[0], genes.names[8]), (genes.names[8], genes.names[1])), genes.names)
    scores, facts = by_cosine(genes)(known)
    assert scores[0, 8] == pytest.approx(scores[1, 0])
    assert facts["tells_direction"] is False


class TestGenie3:
    def counts(self, num_cells: int = 200) -> sp.csr_matrix:
        """Return counts in which each target follows its factor."""
        rng = np.random.default_rng(0)
        factors = rng.gamma(1, 20, size=(num_cells, 2))
        means = np.concatenate([factors, factors[:, np.arange(2, NUM_GENES) % 2]], axis=1)
        means[:, -1] = 0
        return sp.csr_matrix(np.concatenate([rng.poisson(means), np.full((num_cells, 1), 5000)], axis=1))

    def scores(self, **more):
        names = (*NAMES, "filler")
        how = {"trees": 15, "max_cells": 1000, "seed": 0} | more
        return genie3_scores(self.counts(), np.array([1, 0]), names, **how)

    def test_factors_of_targets_are_most_important(self):
        found = self.scores()  # the factors are genes 1 and 0
        targets = np.arange(2, NUM_GENES - 1)
        assert (found.argmax(axis=0)[targets] == (targets + 1) % 2).all()
        assert found[0, 1] == found[1, 0] == 0  # no factor predicts itself

    def test_genes_that_do_not_vary_have_no_factor(self):
        assert self.scores()[:, NUM_GENES - 1].tolist() == [0, 0]

    def test_the_same_seed_gives_the_same_and_few_cells_are_enough(self):
        np.testing.assert_array_equal(self.scores(max_cells=50), self.scores(max_cells=50))
        assert (self.scores(max_cells=50) != self.scores(max_cells=50, seed=1)).any()
