from __future__ import annotations

import logging

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab

HUMAN = GeneVocab.from_name("human_protein_coding")


def panel(*genes: str) -> Panel:
    return Panel(np.array(genes, dtype=object), "lung.h5ad")


class TestOverlap:
    def test_counts_known_genes_and_names_the_kind_of_ids(self):
        coverage = HUMAN.coverage(panel("CD4", "nothing", "a1bg", "MT-ND1"))
        assert (coverage.known, coverage.total, coverage.by_case) == (3, 4, 1)
        assert coverage.id_type == "symbol"
        assert coverage.warning is None
        assert coverage.repeats == 0

    def test_counts_genes_that_are_there_twice(self):
        coverage = HUMAN.coverage(panel("CD4", "A1BG", "CD4", "ENSG00000010610", "nothing", "nothing"))
        assert (coverage.known, coverage.repeats) == (4, 2)

    def test_another_species_is_refused_by_name(self):
        mouse = panel(*[f"ENSMUSG{i:011d}" for i in range(1, 1201)])
        message = (
            r"None of the 1,200 genes of lung.h5ad are in gene_vocab 'human_protein_coding'. Its gene ids look like "
            r"mouse Ensembl ids \(ENSMUSG00000000001, ...\) while the vocabulary has human Ensembl ids "
            r"\(ENSG00000000003, ...\); set data.orthologs.species to mouse to use their human orthologs, "
            r"or data.gene_vocab to from_data"
        )
        with pytest.raises(DataError, match=message):
            HUMAN.require_overlap(mouse)

    def test_another_kind_of_ids_is_refused_with_the_setting_that_names_them(self):
        with pytest.raises(
            DataError, match=r"neither Ensembl ids nor gene symbols .* set data.gene_id_column to the var"
        ):
            HUMAN.require_overlap(panel("12.5", "7", "8"))

    def test_mouse_genes_that_are_to_be_dropped_leave_nothing_of_a_mouse_file(self):
        mouse = panel(*[f"ENSMUSG{i:011d}" for i in range(1, 50)])
        with pytest.raises(
            DataError, match=r"None of the 49 .* data.orthologs gives none of them a token: set .*policy"
        ):
            HUMAN.with_orthologs(["mouse"], "drop").require_overlap(mouse)

    def test_ids_of_several_columns_are_told(self, caplog):
        with caplog.at_level(logging.WARNING):
            HUMAN.require_overlap(panel("CD4", "A1BG", "CD4"))
        assert "1 gene ids of lung.h5ad stand for several columns (CD4, ...), whose counts are summed" in caplog.text

    def test_few_known_genes_are_warned_of(self, caplog):
        mostly_unknown = panel("CD4", *[f"nothing{i}" for i in range(30)])
        with caplog.at_level(logging.WARNING):
            HUMAN.require_overlap(mostly_unknown)
        assert "Only 1 of the 31 genes of lung.h5ad are in gene_vocab 'human_protein_coding'" in caplog.text

    def test_a_small_vocabulary_that_a_file_covers_is_fine(self, caplog):
        vocab = GeneVocab.from_genes(["CD4", "A1BG"], name="markers")
        coverage = vocab.require_overlap(panel("CD4", "A1BG", *[f"nothing{i}" for i in range(100)]))
        assert coverage.warning is None
        assert not caplog.text

    def test_names_that_match_in_capitals_only_are_warned_of(self):
        mouse = panel("Cd4", "A1bg", "Actb", "Gm1")
        assert "3 of the 3 genes of lung.h5ad" in HUMAN.coverage(mouse).warning
        assert "another species" in HUMAN.coverage(mouse).warning
