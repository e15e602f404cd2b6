"""The two settings files of the specification run as written, but for paths, devices and names of data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.data.vocab import GeneVocab
from tests.conftest import make_adata

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    return write_cells(tmp_path_factory.mktemp("data") / "cells.h5ad", seed=0)


def write_cells(path: Path, *, seed: int) -> Path:
    """Write counts of 2,500 real human genes, a tenth of them expressed in a cell, as in a shallow experiment."""
    adata = make_adata(48, 2500, seed=seed)
    adata.X = sp.csr_matrix(adata.X.toarray() * (np.random.default_rng(seed).random(adata.shape) < 0.12))
    adata.var_names = GeneVocab.from_name("human_protein_coding").genes[:2500]
    adata.write_h5ad(path)
    return path


def train(name: str, *changes: str) -> str:
    words = ["train", "--config", str(FIXTURES / name)]
    for change in changes:
        words += ["--set", change]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_tutorial_s_file_trains_gene_pooling_into_the_folders_it_names(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("spec_000.yaml", f"data.paths=[{cells}]", "training.max_epochs=1")
    assert (tmp_path / "logs/gene_pooling/metrics.jsonl").is_file()
    assert (tmp_path / "logs/gene_pooling/model/model.safetensors").is_file()
    assert list((tmp_path / "checkpoints/gene_pooling").glob("step_*/MANIFEST.json"))
    assert json.loads((tmp_path / "logs/gene_pooling/model/config.json").read_text())["model"]["hidden_dim"] == 256


@pytest.fixture
def _ends_its_process_group():
    """Leave nothing of a run with ``strategy: ddp`` to later tests: neither the process group nor its address."""
    from torch import distributed

    before = dict(os.environ)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_ends_its_process_group")
def test_the_proposal_s_file_trains_on_a_census_and_evaluates(cells, tmp_path, monkeypatch):
    from tests.test_data.soma_stores import write_census  # needs the extra census, as slow tests do

    monkeypatch.chdir(tmp_path)
    adata = ad.read_h5ad(cells)
    adata.obs["tissue"] = np.resize(["lung", "skin", "heart", "liver"], len(adata))
    adata.obs["is_primary_data"] = np.arange(len(adata)) % 5 > 0
    adata.var["feature_id"] = adata.var_names
    others = write_cells(tmp_path / "others.h5ad", seed=1)  # cells that are trained on would be refused
    known = f"{{dataset: {others}, label: cell_type, batch: batch}}"  # a file does not say which columns these are
    train(
        "spec_002.yaml",
        f"data.uri={write_census(tmp_path / 'census', homo_sapiens=adata)}",
        "training.num_gpus=0",
        "training.max_epochs=1",
        "model.hidden_dim=32",
        "model.num_layers=1",
        f"eval.benchmarks=[cell_type_annotation: {known}, batch_integration: {known}]",
    )
    run = tmp_path / "runs/spec_002"
    fingerprint = json.loads((run / "model/fingerprint.json").read_text())
    wanted = adata.obs["is_primary_data"] & (adata.obs["tissue"] != "skin")
    assert [entry["cells"] for entry in fingerprint["data"]] == [wanted.sum()]
    vocab = json.loads((run / "model/vocab.json").read_text())
    assert 2000 <= len(vocab["genes"]) <= 2010  # ties at the cut are all taken
    metrics = {json.loads(line)["metric"] for line in (run / "results.jsonl").read_text().splitlines()}
    assert {"accuracy_linear_probe", "silhouette_batch"} <= metrics
