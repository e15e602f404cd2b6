"""Gene vectors of a file on their whole way: into a model, its folder, and out of it without the file."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import DataError
from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle
from tests.conftest import make_adata


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells and a model trained on them with vectors of a file that is no more."""
    folder = tmp_path_factory.mktemp("vectors")
    cells = make_adata(40, 30)
    cells.write_h5ad(folder / "cells.h5ad")
    genes = cells.var_names[:24].to_numpy(str)
    vectors = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    np.savez(folder / "vectors.npz", genes=genes, vectors=vectors)
    config = {
        "data": {"paths": [str(folder / "cells.h5ad")], "gene_vocab": "from_data", "num_workers": 0},
        "tokenizer": {
            "strategy": "gene_embedding",
            "path": str(folder / "vectors.npz"),
            "base": {"strategy": "continuous_projection", "embedding": "attention_bias", "value_transform": "counts"},
            "missing": "drop",
            "max_genes": 16,
        },
        "model": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 16},
        "training": {"batch_size": 8, "max_epochs": 1, "steps_per_epoch": 2, "precision": "32-true"},
        "output": {"run_dir": str(folder / "run"), "tensorboard": False},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    (folder / "vectors.npz").unlink()
    return folder


def test_a_saved_model_is_loaded_without_the_file_and_embeds(folder):
    bundle = load_bundle(folder / "run" / "model")
    assert len(bundle.vocab.genes) == 24
    given = bundle.model.embedding.gene_embedding.given
    np.testing.assert_array_equal(given.weight[4:].numpy(), bundle.tokenizer.arrays()["vectors"])
    assert not given.weight.requires_grad
    assert bundle.model.embedding.biases_attention
    invoke("embed", folder / "cells.h5ad", folder / "embedded.h5ad", "--model", folder / "run")
    found = ad.read_h5ad(folder / "embedded.h5ad").obsm["X_scmodelforge"]
    assert found.shape == (40, 16)
    assert np.ptp(found, axis=0).min() > 0


def test_the_state_names_the_source_and_its_checksum(folder):
    state = json.loads((folder / "run" / "model" / "tokenizer.json").read_text())
    assert state["vectors"]["source"] == "vectors.npz"
    assert len(state["vectors"]["source_sha256"]) == len(state["vectors"]["sha256"]) == 64


def test_the_run_goes_on_without_the_file(folder):
    invoke("train", "--resume", folder / "run")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), r"tokenizer\.safetensors is missing"),
        (lambda path: path.write_bytes(b"nothing"), r"tokenizer\.safetensors: damaged or not a safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1"), "are not those tokenizer.json was saved"),
    ],
)
def test_a_folder_with_other_vectors_is_refused(folder, tmp_path, damage, words):
    import shutil

    shutil.copytree(folder / "run" / "model", tmp_path / "model")
    damage(tmp_path / "model" / "tokenizer.safetensors")
    with pytest.raises(DataError, match=words):
        load_bundle(tmp_path / "model")


def test_a_missing_file_is_told_before_anything_is_written(folder, tmp_path):
    result = CliRunner().invoke(
        app,
        ["train", "--config", str(folder / "run.yaml"), "--set", f"output.run_dir={tmp_path / 'new'}"],
    )
    assert result.exit_code == 2
    assert "it needs a file of gene vectors" in " ".join(result.output.split())
    assert not (tmp_path / "new").exists()


def test_bins_of_a_base_are_generated_as_expression(folder, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(30, 5))
    np.savez(tmp_path / "v.npz", genes=make_adata(4, 30).var_names.to_numpy(str), vectors=vectors)
    config = yaml.safe_load((folder / "run.yaml").read_text())
    config["tokenizer"] |= {"path": str(tmp_path / "v.npz"), "base": {"strategy": "binned_expression", "n_bins": 7}}
    config["model"] |= {"architecture": "autoregressive_transformer"}
    config["output"]["run_dir"] = str(tmp_path / "run")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", tmp_path / "run.yaml")
    invoke("generate", tmp_path / "cells.h5ad", "--model", tmp_path / "run", "-n", 3)
    assert ad.read_h5ad(tmp_path / "cells.h5ad").shape == (3, 30)
