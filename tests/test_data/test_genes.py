from __future__ import annotations

import pytest

from scmodelforge.data.genes import human_protein_coding, is_human_ensembl, strip_version


class TestShippedTable:
    def test_holds_every_gene_and_symbol_once_in_order_of_ensembl_ids(self):
        table = human_protein_coding()
        assert len(table.ensembl) > 19_000
        assert list(table.ensembl) == sorted(set(table.ensembl))
        assert len(set(table.symbols)) == len(table.symbols)
        assert all(is_human_ensembl(gene) for gene in table.ensembl)

    @pytest.mark.parametrize(
        ("symbol", "ensembl"),
        [
            ("CD4", "ENSG00000010610"),
            ("ABCF1", "ENSG00000204574"),  # seven ids on alternative haplotypes
            ("HLA-A", "ENSG00000206503"),
            ("APOBEC3A", "ENSG00000128383"),  # the deletion hybrid APOBEC3A_B shares this id
            ("MT-ND1", "ENSG00000198888"),
            ("ND1", "ENSG00000198888"),  # NCBI's name
        ],
    )
    def test_gives_the_primary_id_of_a_symbol(self, symbol, ensembl):
        assert human_protein_coding().ensembl_of[symbol] == ensembl

    def test_gives_the_symbol_that_files_carry(self):
        assert human_protein_coding().symbol_of["ENSG00000198888"] == "MT-ND1"

    def test_second_symbols_are_nobody_elses_first(self):
        table = human_protein_coding()
        assert not set(table.other_symbol_of.values()) & set(table.symbols)


class TestSpelling:
    @pytest.mark.parametrize(
        ("gene", "bare"),
        [
            ("ENSG00000121410.12", "ENSG00000121410"),
            ("ENSG00000121410", "ENSG00000121410"),
            ("ENSMUSG00000024798.3", "ENSMUSG00000024798"),
            ("ENSG00000182378.15_PAR_Y", "ENSG00000182378"),
            ("AC079767.4", "AC079767.4"),  # a symbol with a dot
            ("ENSA", "ENSA"),  # a symbol that begins like an id
        ],
    )
    def test_only_ensembl_ids_lose_their_version(self, gene, bare):
        assert strip_version(gene) == bare

    def test_mouse_ids_are_not_human(self):
        assert is_human_ensembl("ENSG00000121410")
        assert not is_human_ensembl("ENSMUSG00000024798")
        assert not is_human_ensembl("ENSG00000121410.1")
