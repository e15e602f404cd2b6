"""Which ids of a file's genes a model reads: those that its vocabulary has most genes of."""

from __future__ import annotations

import pytest

from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.data.vocab import GeneVocab
from tests.conftest import make_adata

IDS = [f"ENSG{i:011d}" for i in range(1, 11)]
SYMBOLS = [f"OWN{i}" for i in range(10)]


def cells(names, **columns):
    adata = make_adata(4, len(names))
    adata.var_names = list(names)
    for column, values in columns.items():
        adata.var[column] = values
    return adata


def chosen(vocab, adata, **options) -> tuple[list[str], str]:
    source = AnnDataSource(adata, **options)
    source.choose_gene_ids(vocab)
    return source.panels[0].gene_ids.tolist(), source.describe()[0]


@pytest.fixture
def vocab() -> GeneVocab:
    """Genes by id, of which three symbols are known."""
    return GeneVocab(IDS, name="test", symbols=[*SYMBOLS[:3], *[None] * 7])


class TestChoice:
    def test_is_a_column_whose_genes_the_model_has_more_of(self, vocab):
        found, line = chosen(vocab, cells(SYMBOLS, ensembl_id=IDS, symbol=SYMBOLS))
        assert found == IDS
        assert line.endswith(
            "gene ids from var column 'ensembl_id' (10 genes of the model, var_names 3, var column 'symbol' 3)"
        )

    def test_is_var_names_if_these_are_better(self, vocab):
        found, line = chosen(vocab, cells(IDS, feature_id=["ENSG99999999999"] * 10))
        assert found == IDS
        assert "gene ids from var_names (10 genes of the model, var column 'feature_id' 0)" in line

    def test_counts_genes_of_the_model_and_not_of_the_file(self, vocab):
        """Ten columns of one gene are one gene."""
        assert chosen(vocab, cells(SYMBOLS, ensembl_id=[IDS[0]] * 10))[0] == SYMBOLS

    def test_of_as_many_genes_is_the_one_that_writes_ids_as_the_model_does(self):
        both = GeneVocab(IDS, name="test", symbols=SYMBOLS)
        versioned = [f"{name}.4" for name in IDS]
        assert chosen(both, cells(SYMBOLS, feature_name=SYMBOLS, gene_ids=versioned))[0] == versioned
        by_symbol = GeneVocab(SYMBOLS, name="test", symbols=[None] * 10)
        assert chosen(by_symbol, cells(SYMBOLS, gene_ids=IDS))[0] == SYMBOLS

    def test_of_equal_ones_is_var_names_then_the_first_column_of_the_list(self, vocab):
        assert "from var_names" in chosen(vocab, cells(IDS, gene_ids=IDS, ensembl_id=IDS))[1]
        numbers = [str(i) for i in range(10)]
        for columns in (["gene_ids", "ensembl_id"], ["ensembl_id", "gene_ids"]):
            line = chosen(vocab, cells(numbers, **dict.fromkeys(columns, IDS)))[1]
            assert "from var column 'ensembl_id' (10 genes of the model, var_names 0, var column 'gene_ids' 10)" in line

    def test_is_the_users_if_a_column_was_named(self, vocab):
        found, line = chosen(vocab, cells(IDS, symbol=SYMBOLS), gene_id_column="symbol")
        assert found == SYMBOLS
        assert line.endswith("gene ids from var column 'symbol'")

    def test_leaves_a_file_with_var_names_alone_as_it_is(self, vocab):
        adata = cells(IDS, other=SYMBOLS)
        assert chosen(vocab, adata) == (IDS, AnnDataSource(adata).describe()[0])

    def test_does_not_mind_columns_that_cannot_be_read(self, vocab):
        assert chosen(vocab, cells(IDS, gene_ids=[object() for _ in IDS]))[0] == IDS

    def test_without_a_model_is_var_names_whenever_they_are_gene_ids(self):
        """As in training: what a run reads does not depend on its vocabulary."""
        source = AnnDataSource(cells(SYMBOLS, ensembl_id=IDS))
        assert source.panels[0].gene_ids.tolist() == SYMBOLS
