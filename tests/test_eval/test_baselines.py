from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.baselines import (
    CountMatrix,
    hvg_embedding,
    pca_embedding,
    random_embedding,
    variable_genes,
)


def counts(num_cells: int = 40, num_genes: int = 12, *, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix(rng.poisson(rng.gamma(1, 2, num_genes), (num_cells, num_genes)).astype(np.float32))


class TestPCA:
    def test_is_the_pca_of_log_counts_per_ten_thousand_of_training_cells(self):
        matrix = counts()
        dense = matrix.toarray().astype(float)
        logged = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
        centre = logged[:30].mean(0)
        _, _, axes = np.linalg.svd(logged[:30] - centre, full_matrices=False)
        expected = (logged - centre) @ axes[:3].T
        found = pca_embedding(matrix, num_train=30, n_components=3)
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)

    def test_does_not_see_held_out_cells(self):
        first = pca_embedding(counts(), num_train=30, n_components=3)
        changed = sp.vstack([counts()[:30], counts(10, seed=1)]).tocsr()
        other = pca_embedding(changed, num_train=30, n_components=3)
        np.testing.assert_array_equal(first[:30], other[:30])
        assert (first[30:] != other[30:]).any()

    def test_has_fewer_columns_where_cells_or_genes_are_few(self):
        assert pca_embedding(counts(), num_train=30, n_components=50).shape == (40, 11)
        assert pca_embedding(counts(), num_train=5, n_components=50).shape == (40, 4)

    def test_does_not_depend_on_sequencing_depth(self):
        deeper = counts().copy()
        deeper.data *= 3
        np.testing.assert_allclose(
            pca_embedding(deeper, num_train=30, n_components=3),
            pca_embedding(counts(), num_train=30, n_components=3),
            atol=1e-4,
        )

    def test_is_the_same_again(self):
        first, again = (pca_embedding(counts(), num_train=30, n_components=5, seed=1) for _ in range(2))
        np.testing.assert_array_equal(first, again)

    def test_gives_a_cell_without_counts_a_row(self):
        matrix = counts().tolil()
        matrix[35] = 0
        assert np.isfinite(pca_embedding(matrix.tocsr(), num_train=30, n_components=3)).all()

    def test_refuses_what_cannot_be_decomposed(self):
        with pytest.raises(DataError, match="PCA of 1 training cells and 12 genes is not possible"):
            pca_embedding(counts(), num_train=1)
        same = sp.csr_matrix(np.ones((6, 4)))
        with pytest.raises(DataError, match="all 6 training cells have the same expression"):
            pca_embedding(same, num_train=6)


class TestRandom:
    def test_depends_on_the_cell_and_the_seed_alone(self):
        positions = np.array([7, 2, 100])
        found = random_embedding(positions, 4, seed=1)
        np.testing.assert_array_equal(random_embedding(positions[::-1], 4, seed=1), found[::-1])
        np.testing.assert_array_equal(random_embedding(positions, 2, seed=1), found[:, :2])
        assert (random_embedding(positions, 4, seed=2) != found).all()

    def test_is_standard_normal(self):
        draws = random_embedding(np.arange(4000), 10)
        assert abs(draws.mean()) < 0.02
        assert draws.std() == pytest.approx(1, abs=0.02)
        assert np.abs(np.corrcoef(draws.T) - np.eye(10)).max() < 0.08
        assert (np.abs(draws) < 1.96).mean() == pytest.approx(0.95, abs=0.01)


class TestCountMatrix:
    def test_sums_known_genes_over_panels_in_order_of_the_vocabulary(self):
        vocab = GeneVocab.from_genes(["A", "B", "C"], name="three")
        first = Panel(np.array(["C", "unknown", "A"], dtype=object), "first.h5ad")
        second = Panel(np.array(["B", "B.1x", "A"], dtype=object), "second.h5ad")
        matrix = CountMatrix(vocab)
        blocks = [
            matrix.bind(panel).encode(block(values, panel), np.zeros(len(values), dtype=np.uint64))
            for panel, values in [(first, [[1, 9, 2], [0, 9, 0]]), (second, [[4, 0, 6]])]
        ]
        np.testing.assert_array_equal(matrix.stack(blocks).toarray(), [[2, 0, 1], [0, 0, 0], [6, 4, 0]])

    def test_sums_columns_of_the_same_gene(self):
        vocab = GeneVocab.from_genes(["ENSG00000000003", "ENSG00000000005"], name="two")
        panel = Panel(np.array(["ENSG00000000005.1", "ENSG00000000005.2"], dtype=object), "a.h5ad")
        matrix = CountMatrix(vocab)
        encoded = matrix.bind(panel).encode(block([[1, 2]], panel), np.zeros(1, dtype=np.uint64))
        np.testing.assert_array_equal(matrix.stack([encoded]).toarray(), [[0, 3]])


def block(values, panel: Panel) -> CellBlock:
    rows = sp.csr_matrix(np.array(values, dtype=np.float32))
    return CellBlock(rows.data, rows.indices, rows.indptr.astype(np.int64), panel, np.arange(rows.shape[0]))


class TestVariableGenes:
    def test_are_those_that_vary_most_among_genes_of_similar_mean(self):
        rng = np.random.default_rng(0)
        plain = rng.poisson(20, (300, 60))
        plain[:, 7] = np.where(np.arange(300) % 2, 2, 38)  # the same mean, far apart
        assert variable_genes(sp.csr_matrix(plain), 1).tolist() == [7]

    def test_are_the_columns_of_log_counts_per_ten_thousand(self):
        matrix = counts()
        dense = matrix.toarray().astype(float)
        logged = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
        found = hvg_embedding(matrix, num_train=30, num_genes=5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, logged[:, variable_genes(matrix[:30], 5)], rtol=1e-6)

    def test_are_chosen_on_training_cells_only(self):
        changed = sp.vstack([counts()[:30], counts(10, seed=1) * 50]).tocsr()
        first, other = (hvg_embedding(matrix, num_train=30, num_genes=4) for matrix in (counts(), changed))
        np.testing.assert_array_equal(first[:30], other[:30])
        assert (first[30:] != other[30:]).any()

    def test_are_fewer_where_fewer_vary(self):
        matrix = counts().toarray()
        matrix[:, 3] = 0
        expected = np.flatnonzero(matrix.std(axis=0) > 0)
        assert 3 not in expected
        assert variable_genes(sp.csr_matrix(matrix), 2000).tolist() == expected.tolist()

    def test_refuse_cells_that_are_all_the_same(self):
        with pytest.raises(DataError, match="no gene varies over the 6 training cells"):
            hvg_embedding(sp.csr_matrix(np.ones((6, 4))), num_train=6)
