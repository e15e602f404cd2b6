"""From a settings file to datamodules; .ci/full installs Lightning for these tests."""

from __future__ import annotations

import itertools

import lightning
import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config import load_config
from scmodelforge.models.registry import get_model
from scmodelforge.workflows.datamodule import cell_datamodule, scvi_datamodule
from tests.conftest import make_adata
from tests.test_docs import code_with

pytestmark = pytest.mark.filterwarnings("default")  # those of Lightning and of what it imports are not ours

SETTINGS = """
data: {paths: [PATH], gene_vocab: from_data, batch_column: batch, split: {by: donor_id}}
tokenizer: {max_genes: 32}
model: {hidden_dim: 16, num_layers: 1, num_heads: 2, max_seq_len: 32}
training: {batch_size: 8, seed: 3}
"""


@pytest.fixture
def settings(tmp_path, tiny_h5ad):
    path = tmp_path / "run.yaml"
    path.write_text(SETTINGS.replace("PATH", str(tiny_h5ad)))
    return path


class Pretraining(lightning.LightningModule):
    def __init__(self, model) -> None:
        super().__init__()
        self.model, self.losses = model, []

    def training_step(self, batch, batch_idx):
        loss = self.model(**batch).loss
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class TestCells:
    def test_a_model_of_the_package_trains_on_its_objective(self, settings, tmp_path):
        cells = cell_datamodule(settings)
        module = Pretraining(get_model(cells.config.model.architecture, cells.config.model))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(accelerator="cpu", max_steps=2, default_root_dir=tmp_path, **quiet)
        trainer.fit(module, datamodule=cells)
        assert len(module.losses) == 2
        assert all(torch.isfinite(torch.tensor(module.losses)))

    def test_both_sides_of_the_split_have_their_cells(self, settings):
        cells = cell_datamodule(settings, collate=lambda tokens: tokens.cell_index.tolist())
        assert sorted(itertools.chain(*cells.train_dataloader())) == cells.data.split.train.tolist()
        assert list(itertools.chain(*cells.val_dataloader())) == cells.data.split.validation.tolist()

    def test_settings_can_be_changed(self, settings):
        cells = cell_datamodule(settings, ["training.batch_size=4", "data.split.validation_fraction=0"])
        assert len(cells.train_dataloader()) == 15
        assert cells.val_dataloader() == []

    def test_batches_of_one_group_can_be_asked_for(self, settings):
        sampling = ["data.sampling.minibatch=one", "data.split.validation_fraction=0"]
        cells = cell_datamodule(settings, sampling, collate=lambda tokens: tokens.cell_index.tolist())
        batches, of_cells = list(cells.train_dataloader()), make_adata().obs["batch"]
        assert sorted(itertools.chain(*batches)) == list(range(60))
        assert all(len(set(of_cells.iloc[batch])) == 1 for batch in batches)

    def test_accumulation_is_refused(self, settings):
        words = r"training.gradient_accumulation is 4, .* give the Trainer accumulate_grad_batches=4"
        with pytest.raises(ConfigError, match=words):
            cell_datamodule(settings, ["training.gradient_accumulation=4"])

    def test_overrides_of_settings_in_memory_are_refused(self, settings):
        with pytest.raises(ConfigError, match=r"overrides change the settings of a file; change the given settings"):
            cell_datamodule(load_config(settings), ["training.seed=1"])


def test_the_code_of_the_data_page_runs(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code_with("import lightning"), names)
    assert names["trainer"].global_step == len(names["cells"].train_dataloader()) == 3


class TestCounts:
    def test_they_are_those_of_the_cells_in_use(self, settings):
        cells = scvi_datamodule(settings)
        assert (cells.n_train, cells.n_val, cells.n_batch, cells.n_vars) == (48, 12, 2, 40)

    def test_preprocessing_chooses_cells_and_genes(self, settings):
        variable = ["data.preprocessing.hvg_selection=7", "data.preprocessing.hvg_flavor=seurat_v3"]
        cells = scvi_datamodule(settings, [*variable, "data.preprocessing.min_genes_per_cell=20"])
        adata = make_adata()
        assert cells.n_vars == 7
        assert cells.n_obs == int(((adata.X > 0).sum(axis=1) >= 20).sum()) < 60

    def test_values_that_are_no_counts_are_refused(self, settings, tiny_adata, tiny_h5ad):
        tiny_adata.X = tiny_adata.X / 3
        tiny_adata.write_h5ad(tiny_h5ad)
        with pytest.raises(DataError, match=r"not a whole number, for gene .*; counts are needed"):
            scvi_datamodule(settings)
