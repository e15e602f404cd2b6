"""From settings to the vocabulary of files of different panels and species, and to their tokens."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scmodelforge._errors import DataError
from scmodelforge.config.schema import OrthologsConfig, RunConfig
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.workflows.prepare import PreparedData, prepare_data

HUMAN = ["ENSG00000141510", "ENSG00000111640", "ENSG00000010610"]  # TP53, GAPDH, CD4
MOUSE = ["ENSMUSG00000059552", "ENSMUSG00000057666", "ENSMUSG00000099999"]


def written(path: Path, genes: list[str]) -> str:
    counts = np.tile(np.arange(1, len(genes) + 1, dtype=np.float32), (12, 1))
    obs = pd.DataFrame(index=[f"{path.stem}{i}" for i in range(12)])
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return str(path)


@pytest.fixture
def files(tmp_path) -> list[str]:
    return [written(tmp_path / "human.h5ad", HUMAN), written(tmp_path / "mouse.h5ad", MOUSE)]


def prepared(files: list[str], **settings) -> PreparedData:
    data = LocalDataConfig(paths=files, **settings)
    data.split.by = "cells"
    return prepare_data(RunConfig(data=data))


class TestSpecies:
    def test_cells_of_two_species_have_the_tokens_of_one_vocabulary(self, files):
        data = prepared(files, gene_vocab="human_protein_coding", orthologs=OrthologsConfig())
        try:
            tokens = [
                set(data.tokenizer.tokenize(np.ones(3), panel.gene_ids)["input_ids"].tolist())
                for panel in data.source.panels
            ]
        finally:
            data.source.close()
        human = set(data.vocab.map(HUMAN).tolist())
        assert human <= tokens[0]
        assert tokens[1] == set(data.vocab.map(HUMAN[:2]).tolist()) | {data.vocab.cls_id}

    def test_a_vocabulary_of_the_files_holds_every_gene_once(self, files):
        data = prepared(files, gene_vocab="from_data", orthologs=OrthologsConfig())
        data.source.close()
        assert data.vocab.genes == sorted([*HUMAN, MOUSE[2]])

    @pytest.mark.parametrize(
        ("panels", "genes"), [("intersection", HUMAN[:2]), (2, HUMAN[:2]), (1, [*HUMAN, MOUSE[2]])]
    )
    def test_genes_of_enough_files_are_taken(self, files, panels, genes):
        data = prepared(files, gene_vocab="from_data", gene_vocab_panels=panels, orthologs=OrthologsConfig())
        data.source.close()
        assert data.vocab.genes == sorted(genes)

    def test_the_wrong_species_gets_one_line_with_the_setting(self, files):
        message = r"mouse.h5ad .* mouse Ensembl ids \(ENSMUSG00000059552, ...\) .* set data.orthologs.species to mouse"
        with pytest.raises(DataError, match=message):
            prepared(files, gene_vocab="human_protein_coding")

    def test_a_table_for_another_species_is_read(self, tmp_path):
        table = tmp_path / "rat.tsv"
        table.write_text(f"human\tgene\tsymbol\n{HUMAN[0]}\tENSRNOG00000010756\tTp53\n")
        files = [written(tmp_path / "rat.h5ad", ["ENSRNOG00000010756", "ENSRNOG00000099999"])]
        data = prepared(files, orthologs=OrthologsConfig(species=str(table)))
        data.source.close()
        panel = data.source.panels[0]
        assert data.vocab.map_panel(panel).tolist() == [data.vocab.map(HUMAN)[0], -1]
