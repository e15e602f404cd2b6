from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from scmodelforge import datasets
from scmodelforge._errors import DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.datasets.registry import verify


@pytest.fixture(scope="module")
def blood():
    return datasets.load("pbmc68k_reduced")


class TestInfo:
    def test_every_shipped_data_set_is_what_its_entry_says(self):
        shipped = [name for name in datasets.list_datasets() if datasets.info(name).is_shipped]
        assert shipped == ["pbmc68k_reduced"]
        for name in shipped:
            info, cells = datasets.info(name), datasets.load(name)
            assert info.name == name
            assert cells.shape == (info.cells, info.genes)
            assert set(info.columns) <= set(cells.obs.columns)

    def test_the_names_of_the_specification_and_of_the_screens_are_known(self):
        wanted = {"tabula_sapiens", "immune_atlas", "norman", "replogle_k562_essential"}
        assert wanted <= set(datasets.list_datasets())

    @pytest.mark.parametrize("name", datasets.list_datasets())
    def test_every_entry_says_what_a_person_must_know(self, name):
        info = datasets.info(name)
        assert info.licence
        assert re.search(r"doi:10\.\d{4,}/", info.citation)
        assert info.is_shipped or info.url or info.where
        assert info.split is not None
        assert (info.perturbation_column is None) == (info.control is None)

    @pytest.mark.parametrize("name", datasets.list_datasets())
    def test_no_checksum_stands_for_a_file_nobody_here_has_seen(self, name):
        info = datasets.info(name)
        assert (info.sha256 is not None) == info.is_shipped
        assert info.url is None or info.url.startswith("https://")

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        message = r"unknown data set 'pbmc68k'. Did you mean 'pbmc68k_reduced'\? Available: immune_atlas, norman, pbmc"
        with pytest.raises(DataError, match=message):
            datasets.info("pbmc68k")
        with pytest.raises(DataError, match="unknown data set"):
            datasets.path("nothing")


class TestFile:
    def test_a_damaged_file_is_refused(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        path.write_bytes(b"half of it")
        with pytest.raises(DataError, match=r"cells.h5ad is damaged: its sha256 is [0-9a-f]{12}..., not abc"):
            verify(path, "abc")

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="the data set's file is missing; install scmodelforge again"):
            verify(tmp_path / "cells.h5ad", "abc")

    def test_is_small(self):
        assert datasets.path("pbmc68k_reduced").stat().st_size < 1_000_000


class TestBlood:
    def test_holds_counts_of_cells_that_are_not_empty(self, blood):
        counts = blood.X.toarray()
        assert (counts == np.round(counts)).all()
        assert counts.min() == 0
        assert (counts.sum(axis=1) > 0).all()

    def test_no_cell_has_more_counts_than_the_whole_experiment_gave_it(self, blood):
        assert (np.asarray(blood.X.sum(axis=1)).ravel() <= blood.obs["n_counts"]).all()

    def test_has_ten_types_and_eight_channels(self, blood):
        assert blood.obs["bulk_labels"].nunique() == 10
        assert blood.obs["channel"].nunique() == 8
        assert not blood.obs[["bulk_labels", "channel", "louvain", "phase"]].isna().any(axis=None)

    def test_types_express_their_markers(self, blood):
        totals = np.asarray(blood.X.sum(axis=1)).ravel()
        share = blood.to_df().div(totals, axis=0).groupby(blood.obs["bulk_labels"], observed=True).mean()
        assert share["CD79A"].idxmax() == "CD19+ B"
        assert share["S100A8"].idxmax() == "CD14+ Monocyte"
        assert share["GNLY"].idxmax() == "CD56+ NK"

    def test_symbols_and_ids_lead_to_the_same_tokens(self, blood):
        vocab = GeneVocab.from_name("human_protein_coding")
        by_symbol, by_id = vocab.map(blood.var_names), vocab.map(blood.var["ensembl_id"])
        assert by_symbol.tolist() == by_id.tolist()
        assert (by_symbol >= 0).mean() > 0.9

    def test_says_where_it_comes_from(self, blood):
        assert "scanpy" in blood.uns["source"]
        assert "CC BY 4.0" in blood.uns["licence"]
        assert "Zheng" in blood.uns["citation"]


class TestImport:
    def test_the_list_needs_neither_anndata_nor_torch(self):
        code = (
            "import sys; from scmodelforge import datasets; datasets.path('pbmc68k_reduced');"
            "sys.exit(any(name in sys.modules for name in ('anndata', 'torch', 'pandas', 'h5py', 'pooch')))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
