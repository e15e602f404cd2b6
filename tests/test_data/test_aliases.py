from __future__ import annotations

import re

import pytest

from scmodelforge.data.aliases import gene_of_alias
from scmodelforge.data.genes import human_genes, human_protein_coding, is_mostly_human, split_named


class TestShippedAliases:
    @pytest.mark.parametrize(
        ("alias", "symbol"), [("P53", "TP53"), ("SEPT9", "SEPTIN9"), ("MARCH1", "MARCHF1"), ("CVID3", "CD19")]
    )
    def test_known_pairs(self, alias, symbol):
        assert gene_of_alias()[alias] == human_genes().ensembl_of[symbol]

    def test_none_is_the_own_name_of_a_gene(self):
        table = human_genes()
        assert not gene_of_alias().keys() & (table.ensembl_of.keys() | table.symbol_of.keys())

    def test_each_stands_for_a_known_gene(self):
        assert len(gene_of_alias()) > 40_000
        assert set(gene_of_alias().values()) <= human_genes().symbol_of.keys()
        assert all(len(alias) > 2 for alias in gene_of_alias())

    def test_a_name_of_several_genes_is_not_there(self):
        assert "MLL2" not in gene_of_alias()  # was used for KMT2B and for KMT2D


class TestHumanGenes:
    def test_has_the_coding_genes_and_others_each_once(self):
        table = human_genes()
        assert set(human_protein_coding().ensembl) < set(table.ensembl)
        assert len(table.ensembl) == len(set(table.ensembl)) > 40_000
        assert len(set(table.symbols)) == len(table.symbols)
        assert (table.symbol_of["ENSG00000229807"], table.symbol_of["ENSG00000251562"]) == ("XIST", "MALAT1")

    def test_second_symbols_are_nobody_elses_first(self):
        assert not set(human_genes().other_symbol_of.values()) & set(human_genes().symbols)

    def test_names_are_human_if_half_of_them_are(self):
        assert is_mostly_human(["CD4", "ENSG00000121410.3", "x", "y"])
        assert not is_mostly_human(["CD4", "x", "y"])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("TBCE_ENSG00000284770", ("TBCE", "ENSG00000284770")),
        ("A_B_ENSMUSG00000024798.3", ("A_B", "ENSMUSG00000024798")),
        ("ENSG00000284770", None),
        ("TBCE_ENS", None),
        ("TBCE_1", None),
    ],
)
def test_a_name_with_an_id_is_taken_apart(name, parts):
    assert split_named(name) == parts
    assert parts is None or re.fullmatch(r"ENS[A-Z]*G\d{11}", parts[1])
