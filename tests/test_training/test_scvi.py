"""Models of scvi-tools trained on files through a datamodule; .ci/full installs scvi-tools for these tests."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
import scvi
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import DataConfig, PreprocessingConfig
from scmodelforge.data.splits import CellSplit
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.training import ScviDataModule
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files, write
from tests.test_docs import code_with

pytestmark = pytest.mark.filterwarnings("default")  # those of scvi-tools and of what it imports are not ours

COLUMNS = {"batch_column": "batch", "label_column": "cell_type"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"n_hidden": 8, "n_latent": 3}


def split_of(num_cells: int, *, held_out: int = 0) -> CellSplit:
    cells = np.arange(num_cells)
    return CellSplit(cells[held_out:], cells[:held_out], "cells", 0, 0.1)


def cells_of(tmp_path, *adatas, genes=None, held_out=10, config=None, **settings) -> ScviDataModule:
    source = open_files(*(write(tmp_path, adata, name=f"{n}.h5ad") for n, adata in enumerate(adatas)))
    vocab = GeneVocab.from_panels(source.panels) if genes is None else GeneVocab.from_genes(genes, name="chosen")
    split = split_of(sum(source.file_sizes), held_out=held_out)
    config = config or DataConfig(num_workers=1, **COLUMNS)
    return ScviDataModule(source, vocab, split, config, **{"batch_size": 16, **settings})


def inferred(cells: ScviDataModule, name: str) -> np.ndarray:
    return np.concatenate([batch[name].numpy() for batch in cells.inference_dataloader(batch_size=13)])


class TestBatches:
    def test_they_are_the_counts_of_the_file(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        assert (inferred(cells, "X") == tiny_adata[:, list(cells.var_names)].X.toarray()).all()
        assert inferred(cells, "ind_x").ravel().tolist() == list(range(60))

    def test_codes_are_those_of_the_columns(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        assert (cells.batch_labels[inferred(cells, "batch").ravel()] == tiny_adata.obs["batch"].astype(str)).all()
        assert (cells.labels[inferred(cells, "labels").ravel()] == tiny_adata.obs["cell_type"].astype(str)).all()
        assert (cells.labels_ == tiny_adata.obs["cell_type"].astype(str)[10:]).all()

    def test_they_have_the_types_scvi_takes(self, tmp_path, tiny_adata):
        batch = next(iter(cells_of(tmp_path, tiny_adata).train_dataloader()))
        assert {name: (values.dtype, tuple(values.shape)) for name, values in batch.items()} == {
            "X": (torch.float32, (16, 40)),
            "batch": (torch.int64, (16, 1)),
            "labels": (torch.int64, (16, 1)),
            "ind_x": (torch.int64, (16, 1)),
        }

    def test_genes_are_in_the_order_asked_for(self, tmp_path, tiny_adata):
        genes = list(tiny_adata.var_names[[7, 3, 20]])
        assert (inferred(cells_of(tmp_path, tiny_adata, genes=genes), "X") == tiny_adata[:, genes].X.toarray()).all()

    def test_columns_with_the_same_gene_are_summed(self, tmp_path, tiny_adata):
        gene = tiny_adata.var_names[0]
        tiny_adata.var_names = [gene, f"{gene}.2", *tiny_adata.var_names[2:]]
        expected = tiny_adata.X[:, :2].sum(axis=1)
        assert (inferred(cells_of(tmp_path, tiny_adata, genes=[gene]), "X") == expected).all()

    def test_genes_a_file_lacks_are_zeros_and_told(self, tmp_path, caplog):
        first, second = make_adata(20, 6), make_adata(20, 4)
        with caplog.at_level(logging.WARNING):
            cells = cells_of(tmp_path, first, second)
        assert (inferred(cells, "X")[20:, 4:] == 0).all()
        assert (inferred(cells, "X")[:20] == first[:, list(cells.var_names)].X.toarray()).all()
        assert "1.h5ad lacks 2 of 6 genes; they count as 0 in its cells" in caplog.text

    def test_held_out_cells_are_in_validation_alone(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        train = torch.cat([batch["ind_x"] for batch in cells.train_dataloader()])
        held_out = torch.cat([batch["ind_x"] for batch in cells.val_dataloader()])
        assert sorted(train.ravel().tolist()) == list(range(10, 60))
        assert held_out.ravel().tolist() == list(range(10))

    def test_a_training_batch_of_one_cell_is_left_out(self, tmp_path, tiny_adata):
        sizes = [len(batch["X"]) for batch in cells_of(tmp_path, tiny_adata, held_out=11).train_dataloader()]
        assert sizes == [16, 16, 16]  # and the last of the 49 cells


class TestCategories:
    def test_without_columns_there_is_one_batch_and_one_label(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata, config=DataConfig())
        assert (cells.n_batch, cells.n_labels) == (1, 1)
        assert not inferred(cells, "batch").any()
        assert not inferred(cells, "labels").any()

    def test_those_of_no_cell_in_use_do_not_count(self, tmp_path, tiny_adata):
        tiny_adata.obs["batch"] = np.where(np.arange(60) < 58, "b9", "alone")
        cells = cells_of(tmp_path, tiny_adata)
        split = CellSplit(np.arange(5, 58), np.arange(5), "cells", 0, 0.1)
        fewer = ScviDataModule(cells.source, cells.vocab, split, cells.config)
        assert cells.batch_labels.tolist() == ["alone", "b9"]
        assert fewer.batch_labels.tolist() == ["b9"]
        assert not inferred(fewer, "batch").any()

    def test_cells_without_a_label_have_the_last_one(self, tmp_path, tiny_adata):
        names = np.array(["type1", "?", "type0"])[np.arange(60) % 3].astype(object)
        names[:4] = np.nan
        tiny_adata.obs["cell_type"] = names
        cells = cells_of(tmp_path, tiny_adata, unlabeled_category="?")
        assert cells.labels.tolist() == ["type0", "type1", "?"]
        expected = [2] * 4 + [[1, 2, 0][cell % 3] for cell in range(4, 60)]
        assert inferred(cells, "labels").ravel().tolist() == expected

    def test_cells_without_a_batch_are_refused(self, tmp_path, tiny_adata):
        tiny_adata.obs["batch"] = tiny_adata.obs["batch"].astype(object)
        tiny_adata.obs.iloc[3, tiny_adata.obs.columns.get_loc("batch")] = np.nan
        with pytest.raises(
            DataError, match=r"1 cells have no value in obs column 'batch' \(data.batch_column\); leave"
        ):
            cells_of(tmp_path, tiny_adata)

    @pytest.mark.parametrize("setting", [{"normalize": "scran"}, {"log1p": True}, {"cache": "kept"}])
    def test_settings_that_change_counts_are_refused(self, tmp_path, tiny_adata, setting):
        ((name, value),) = setting.items()
        config = DataConfig(preprocessing=PreprocessingConfig(**setting))
        words = rf"data.preprocessing.{name} is {value}, but models of scvi-tools take counts; leave it out"
        with pytest.raises(ConfigError, match=words):
            cells_of(tmp_path, tiny_adata, config=config)


class TestModels:
    def test_scvi_trains_and_gives_the_latent_representation_of_every_cell(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        model = scvi.model.SCVI(registry=cells.registry, **SMALL)
        model.train(max_epochs=2, datamodule=cells, check_val_every_n_epoch=1, **QUIET)
        assert len(model.history["elbo_train"]) == len(model.history["elbo_validation"]) == 2
        latent = model.get_latent_representation(dataloader=cells.inference_dataloader())
        assert latent.shape == (60, 3)
        assert np.isfinite(latent).all()

    def test_the_same_cells_in_memory_have_the_same_latent_representation(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        model = scvi.model.SCVI(registry=cells.registry, **SMALL)
        model.train(max_epochs=1, datamodule=cells, **QUIET)
        in_memory = ad.AnnData(tiny_adata[:, list(cells.var_names)].X.copy(), obs=tiny_adata.obs)
        scvi.model.SCVI.setup_anndata(in_memory, batch_key="batch")
        other = scvi.model.SCVI(in_memory, **SMALL)
        other.module.load_state_dict(model.module.state_dict())
        other.module.eval()
        other.is_trained_ = True
        expected = other.get_latent_representation()
        found = model.get_latent_representation(dataloader=cells.inference_dataloader())
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_a_saved_model_can_be_loaded(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata)
        model = scvi.model.SCVI(registry=cells.registry, **SMALL)
        model.train(max_epochs=1, datamodule=cells, **QUIET)
        model.save(tmp_path / "model", save_anndata=False, datamodule=cells)
        loaded = scvi.model.SCVI.load(tmp_path / "model", adata=False, accelerator="cpu")
        before, after = (m.get_latent_representation(dataloader=cells.inference_dataloader()) for m in (model, loaded))
        assert (before == after).all()

    def test_scanvi_trains_on_labels_and_predicts_them(self, tmp_path, tiny_adata):
        cells = cells_of(tmp_path, tiny_adata, model_name="SCANVI")
        model = scvi.model.SCANVI(registry=cells.registry, datamodule=cells, **SMALL)
        model.train(max_epochs=1, datamodule=cells, **QUIET)
        predicted = model.predict(dataloader=cells.inference_dataloader())
        assert len(predicted) == 60
        assert set(predicted) <= set(cells.labels)

    def test_the_code_of_the_data_page_runs(self, tmp_path, tiny_h5ad, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run.yaml").write_text(f"data: {{paths: [{tiny_h5ad}], gene_vocab: from_data}}\n")
        names: dict = {}
        exec(code_with("import scvi"), names)
        assert names["latent"].shape == (60, 10)
