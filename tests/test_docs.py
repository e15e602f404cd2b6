"""Settings and code in the documents are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.eval.embedding.catalogue import all_names
from scmodelforge.eval.embedding.names import INTEGRATION_DEFAULT
from scmodelforge.hub import load_bundle
from scmodelforge.models import AutoregressiveTransformer
from scmodelforge.models.scdiva_diffusion import ScDivaDiffusion
from scmodelforge.training.meter import SPEED
from tests.conftest import make_adata
from tests.test_models.test_published.test_scgpt import GENES, published, write

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("data.md", "yaml"))
def test_settings_of_the_data_page_are_valid(text, tmp_path):
    if "paths:" not in text and "source:" not in text:
        text = text.replace("data:\n", "data:\n  paths: [lung.h5ad]\n", 1)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert load_config(path).data.source in ("local", "cellxgene_census", "mixture")


@pytest.mark.parametrize("text", blocks("binning.md", "yaml"))
def test_settings_of_the_page_on_binning_are_valid(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
    assert load_config(path).tokenizer.strategy == "binned_expression"


class TestPageOnWatching:
    PAGE = (DOCS / "watching.md").read_text()

    def test_its_settings_are_valid(self, tmp_path):
        (text,) = blocks("watching.md", "yaml")
        path = tmp_path / "run.yaml"
        path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
        wandb = load_config(path).output.wandb
        assert (wandb.project, wandb.name, wandb.entity) == ("lung-atlas", "small-model", "my-lab")
        assert (wandb.tags, wandb.mode) == (["lung", "pilot"], "offline")

    def test_every_figure_of_speed_is_in_its_table(self):
        assert all(f"| `{name}` |" in self.PAGE for name in SPEED)


@pytest.mark.parametrize("text", blocks("distributed.md", "yaml"))
def test_settings_of_the_page_on_several_devices_are_valid(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
    assert load_config(path).training.devices > 1


def test_code_about_filling_in_runs():
    names: dict = {
        "model": AutoregressiveTransformer(vocab_size=20, n_bins=5, hidden_dim=16, num_layers=1, num_heads=2),
        "input_ids": torch.tensor([[3, 5, 7, 9]]),
        "known_values": torch.tensor([[0.0, 0.5, 0.0, 0.25]]),
        "known_mask": torch.tensor([[1, 1, 0, 1]]),
    }
    exec(code_with(".fill(", page="models.md"), names)
    assert names["filled"].is_filled.tolist() == [[False, False, True, False]]
    assert names["filled"].probabilities.shape == (1, 4, 5)


def test_code_about_scdiva_runs():
    code = code_with("ScDiVa", page="models.md")
    small = "vocab_size=20, hidden_dim=16, num_layers=1, num_heads=2)"
    cells = {"input_ids": torch.tensor([[3, 5, 7]]), "attention_mask": torch.ones(1, 3), "values": torch.rand(1, 3)}
    names: dict = dict(cells)
    exec(code.replace("num_cell_types=100)", f"num_cell_types=100, {small}"), names)
    assert names["mu"].shape == names["logvar"].shape == (1, 128)
    assert names["model"].num_cell_types == 100


def test_cells_of_masked_diffusion_can_be_drawn():
    code = code_with("model.sample(", page="models.md").replace("100, num_genes=300", "5, num_genes=30")
    names: dict = {"model": ScDivaDiffusion(50, 16, 1, 2)}
    exec(code, names)
    assert names["cells"].is_sampled.sum() == 5 * 30


def code_with(text: str, *, page: str = "data.md") -> str:
    """Return the block of code of a page that has a text."""
    (code,) = (block for block in blocks(page, "python") if text in block)
    return code


def test_every_block_of_code_of_the_models_page_is_run_by_a_test():
    texts = [".fill(", "ScDiVa", "model.sample(", "load_scgpt("]
    assert sorted(code_with(text, page="models.md") for text in texts) == sorted(blocks("models.md", "python"))


def test_every_block_of_code_of_the_data_page_is_run_by_a_test():
    """Those that need an extra are run with the other tests of their part."""
    texts = ["CellLoader(", "import lightning", "import scvi", "find_perturbation_columns"]
    assert sorted(map(code_with, texts)) == sorted(blocks("data.md", "python"))


def test_code_about_perturbations_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = make_adata(4, 5)
    adata.obs["condition"] = ["ctrl", "A+ctrl", "A+B", "ctrl"]
    adata.write_h5ad("screen.h5ad")
    names: dict = {}
    exec(code_with("find_perturbation_columns"), names)
    assert (names["columns"].perturbation, names["columns"].control) == ("condition", "ctrl")


def test_code_of_the_data_page_runs(tmp_path, monkeypatch):
    code = code_with("CellLoader(")
    monkeypatch.chdir(tmp_path)
    make_adata(70, 30).write_h5ad("lung.h5ad")
    names: dict = {}
    exec(code, names)
    assert names["batch"]["input_ids"].shape[0] == 70 % 32


def test_commands_and_code_of_the_tokenizer_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_adata(20, 30).write_h5ad("lung.h5ad")
    make_adata(20, 30, seed=1).write_h5ad("blood.h5ad")
    commands = [line for text in blocks("tokenizers.md", "bash") for line in text.splitlines()]
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
    (code,) = blocks("tokenizers.md", "python")
    vocab = (Path("tokenizer") / "vocab.json").read_text()
    code = code.replace("ENSG00000010610", next(iter(re.findall(r"ENSG\d{11}", vocab))))
    names: dict = {}
    exec(code, names)
    assert len(names["cell"]["input_ids"]) == 2  # <cls> and the gene that the vocabulary knows
    assert (Path("elsewhere") / "tokenizer.json").exists()


class TestPageOnModels:
    def test_settings_of_scgpt_are_valid(self, tmp_path):
        (text,) = (block for block in blocks("models.md", "yaml") if "architecture: scgpt" in block)
        path = tmp_path / "run.yaml"
        path.write_text(text.replace("data:\n", "data:\n  paths: [lung.h5ad]\n"))
        assert load_config(path).model.counted_terms == {"gepc": "targets", "ecs": "cells", "dab": "batch_labels"}

    def test_settings_of_scgpt_are_valid_as_a_run_keeps_them(self, tmp_path):
        (text,) = (block for block in blocks("models.md", "yaml") if "architecture: scgpt" in block)
        path = tmp_path / "run.yaml"
        path.write_text(text.replace("data:\n", "data:\n  paths: [lung.h5ad]\n"))
        config = load_config(path)
        path.write_text(yaml.safe_dump(config.to_dict()))
        assert load_config(path).to_dict() == config.to_dict()
        assert config.tokenizer.mask_value == config.model.mask_value == -1

    def test_published_weights_embed_cells(self, tmp_path, monkeypatch):
        """As the page says, with weights in the published form; lengths of embeddings are 1."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "scgpt_human").mkdir()
        write(tmp_path / "scgpt_human", published())
        (code,) = (block for block in blocks("models.md", "python") if "load_scgpt" in block)
        names: dict = {}
        exec(code, names)
        adata = make_adata(20, 20)
        adata.var_names = GENES
        adata.write_h5ad("cells.h5ad")
        result = CliRunner().invoke(app, ["embed", "cells.h5ad", "embedded.h5ad", "--model", "scgpt_model"])
        assert result.exit_code == 0, result.output
        found = ad.read_h5ad("embedded.h5ad").obsm["X_scmodelforge"]
        assert found.shape == (20, 8)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
        bundle = load_bundle(tmp_path / "scgpt_model")
        weights = names["model"].state_dict()
        assert all(torch.equal(own, weights[name]) for name, own in bundle.model.state_dict().items())


class TestPageOnGuards:
    def test_its_settings_are_valid(self, tmp_path):
        (text,) = blocks("guards.md", "yaml")
        path = tmp_path / "run.yaml"
        path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
        training = load_config(path).training
        assert (training.batch_size, training.global_batch_size) == ("auto", 512)
        assert training.guards == type(training.guards)()  # as the page says, these are the defaults

    def test_its_command_is_one(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make_adata(40, 20).write_h5ad("lung.h5ad")
        small = "{hidden_dim: 8, num_layers: 1, num_heads: 2}"
        settings = "{paths: [lung.h5ad], gene_vocab: from_data}"
        Path("runs.yaml").write_text(f"data: {settings}\nmodel: {small}\ntraining: {{batch_size: 4, devices: 1}}\n")
        (command,) = blocks("guards.md", "bash")
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lung.h5ad", "runs.yaml"]

    def test_its_code_is_that_of_the_tests(self):
        (code,) = blocks("guards.md", "python")
        assert "replay_batch(" in code
        compile(code, "guards.md", "exec")


class TestPageOnScoresOfEmbeddings:
    PAGE = (DOCS / "evaluation/embedding.md").read_text()

    def test_its_settings_are_valid(self, tmp_path):
        (text,) = blocks("evaluation/embedding.md", "yaml")
        path = tmp_path / "run.yaml"
        path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
        quality, integration = load_config(path).eval.benchmarks
        assert quality.metrics == ["nmi_kmeans", "ari_kmeans", "silhouette_label", "clisi_knn"]
        assert integration.backend == "native"

    def test_explains_every_metric_and_marks_the_defaults(self):
        rows = [line for line in self.PAGE.splitlines() if line.startswith("| `")]
        explained = {name: line for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}
        assert set(all_names()) <= set(explained)
        defaults = {name for name in all_names() if "*default*" in explained[name]}
        assert defaults == set(INTEGRATION_DEFAULT)
