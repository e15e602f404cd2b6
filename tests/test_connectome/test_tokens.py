"""Bins of expression, and genes with vectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from scmodelforge.connectome.models.gene_vectors import shared_genes
from scmodelforge.connectome.models.tokens import ExpressionBins, GeneChunks, GeneTokens

GENES = ["A1", "B2", "C3", "D4"]


def index(bins: ExpressionBins, values: list[float]) -> list[int]:
    found = bins(torch.tensor([values]))
    assert found.sum(dim=-1).eq(1).all()
    return found.argmax(dim=-1)[0].tolist()


class TestUniformBins:
    def test_they_are_closed_below_and_the_last_above(self):
        bins = ExpressionBins(5, "uniform", 8)
        assert index(bins, [0.0, 0.19, 0.2, 0.4, 0.6, 0.79, 0.8, 1.0]) == [0, 0, 1, 2, 3, 3, 4, 4]

    def test_what_is_outside_is_in_the_first_or_last(self):
        assert index(ExpressionBins(5, "uniform", 2), [-3.0, 7.0]) == [0, 4]


class TestQuantileBins:
    def test_each_has_as_many_regions_for_every_gene(self):
        expression = torch.rand(100, 3) ** 4 * torch.tensor([1.0, 0.1, 5.0])
        bins = ExpressionBins(4, "quantile", 3)
        bins.fit_edges(expression)
        assert (bins(expression).sum(dim=0) == 25).all()

    def test_before_they_are_fitted_they_are_uniform(self):
        values = torch.tensor([[0.0, 0.3, 0.55, 1.0]])
        assert torch.equal(ExpressionBins(5, "quantile", 4)(values), ExpressionBins(5, "uniform", 4)(values))


class TestLearnedBins:
    def test_boundaries_get_gradients_and_are_sorted_on_use(self):
        bins = ExpressionBins(4, "learned", 3)
        values = torch.rand(20, 3)
        straight = bins(values)
        (straight * torch.arange(4)).sum().backward()
        assert (bins.boundaries.grad.abs() > 1e-4).all()
        with torch.no_grad():
            bins.boundaries.copy_(bins.boundaries.flip(0))
            torch.testing.assert_close(bins(values), straight)

    def test_shares_are_positive_and_sum_to_one(self):
        found = ExpressionBins(5, "learned", 3)(torch.rand(20, 3))
        assert found.min() >= 0
        torch.testing.assert_close(found.sum(dim=-1), torch.ones(20, 3))

    def test_far_from_boundaries_they_are_the_uniform_ones(self):
        values = torch.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]])
        found = ExpressionBins(5, "learned", 5)(values)
        assert torch.equal(found.argmax(dim=-1), torch.arange(5)[None])
        assert found.amax(dim=-1).min() > 0.7


class TestTokens:
    def test_they_are_projected_bins_plus_vectors(self):
        vectors = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
        tokens = GeneTokens(3, 6, ExpressionBins(5, "uniform", 3), vectors)
        expression = torch.tensor([[0.1, 0.5, 1.0]])
        with torch.no_grad():
            bins = tokens.bin_projection.weight.T[[0, 2, 4]] + tokens.bin_projection.bias
            expected = (bins + torch.from_numpy(vectors)) @ tokens.projection.weight.T + tokens.projection.bias
            torch.testing.assert_close(tokens(expression)[0], expected)

    def test_given_vectors_stay_and_learned_ones_do_not(self):
        bins = ExpressionBins(5, "uniform", 3)
        given = GeneTokens(3, 6, bins, np.ones((3, 7), np.float32))
        assert not given.gene_vectors.requires_grad
        assert GeneTokens(3, 6, bins, None).gene_vectors.requires_grad


class TestVectors:
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(np.arange(12.0).reshape(4, 3), index=["D4", "A1", "Z", "C3"])

    @pytest.mark.parametrize("kind", ["mapping", "text", "headed", "parquet", "csv"])
    def test_every_kind_gives_the_same(self, kind, tmp_path):
        table = self.frame()
        lines = [f"{gene} {' '.join(map(str, row))}" for gene, row in zip(table.index, table.to_numpy(), strict=True)]
        path = tmp_path / "v"
        if kind == "mapping":
            given = {gene: row.tolist() for gene, row in zip(table.index, table.to_numpy(), strict=True)}
        elif kind in ("text", "headed"):
            given = path.with_suffix(".txt")
            given.write_text("\n".join(["4 3", *lines] if kind == "headed" else lines) + "\n")
        else:
            given = path.with_suffix(f".{kind}")
            named = table.set_axis(["a", "b", "c"], axis=1).rename_axis("gene").reset_index()
            named.to_parquet(given) if kind == "parquet" else named.to_csv(given, index=False)
        found = shared_genes(given, GENES)
        assert found.names == ["A1", "C3", "D4"]
        assert found.columns.tolist() == [0, 2, 3]
        np.testing.assert_array_equal(found.vectors, table.loc[["A1", "C3", "D4"]].to_numpy())

    def test_a_path_in_words(self, tmp_path):
        (tmp_path / "v.txt").write_text("A1 1 2\n")
        assert shared_genes(str(tmp_path / "v.txt"), GENES).names == ["A1"]

    def test_genes_without_one_are_counted(self, caplog):
        shared_genes({"A1": [1.0, 2.0], "B2": [0.0, 0.0]}, GENES)
        assert "3 of 4 genes have no vector and are left out: B2, C3, D4." in caplog.text

    def test_without_any_all_are_learned(self):
        found = shared_genes(None, GENES)
        assert (found.names, found.vectors) == (GENES, None)

    def test_ids_are_found_without_their_version(self):
        found = shared_genes({"ENSG00000000003.5": [1.0, 2.0]}, ["ENSG00000000003.12", "ENSG00000000005"])
        assert found.columns.tolist() == [0]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "gene_embeddings: no gene in it"),
            ({"A1": [1.0], "B2": [1.0, 2.0]}, "gene_embeddings: its vectors have different shapes"),
            ({"A1": [np.nan, 1.0]}, "gene_embeddings: the vector of gene 'A1' has a number that is NaN"),
            ({"A1": "word"}, "gene_embeddings holds something that is not a vector"),
            (3, "gene_embeddings is int; a mapping"),
            ("no/such.txt", "gene_embeddings: no file 'no/such.txt'"),
        ],
    )
    def test_what_cannot_be_used(self, given, words):
        with pytest.raises(ValueError, match=words):
            shared_genes(given, GENES)


@pytest.mark.parametrize(("value", "count"), [(0.3, 43), (0.3, 86), (0.1, 91)])
def test_a_gene_that_is_constant_but_for_rounding_is_not_divided(value, count):
    chunks = GeneChunks(1, 1, 4)
    chunks.fit_scales(torch.full((count, 1), value))
    assert chunks.scale.item() == 1
