"""Every recipe of fine-tuning runs as it is, on the data set that is shipped, with fewer epochs."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import pytest
import yaml

from scmodelforge import datasets
from scmodelforge.hub.bundle import save_bundle
from tests.test_life_cycle import invoke
from tests.test_workflows.ready_models import RANKS, ready_model

FOLDER = Path(__file__).parents[2] / "configs" / "recipes"
OWN = ("cell_type_annotation", "regression", "gene_classification", "continued_pretraining")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with a small base model for the genes of the data set, and classes of some of them."""
    folder = tmp_path_factory.mktemp("recipes")
    genes = list(ad.read_h5ad(datasets.path("pbmc68k_reduced")).var_names)
    base = ready_model(tokenizer=RANKS | {"max_genes": 32}, genes=genes, pooling="mean", dropout=0.0)
    save_bundle(folder / "base", base, card="")
    ribosomal = [gene for gene in genes if gene.startswith(("RPS", "RPL"))]
    others = [gene for gene in genes if gene.startswith("HLA")]
    lines = [*(f"{gene}\tribosomal" for gene in ribosomal), *(f"{gene}\tHLA" for gene in others)]
    (folder / "genes.tsv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_runs(name, place, tmp_path):
    own = {
        "regression": ("finetune.targets=[percent_mito]",),
        "gene_classification": (f"finetune.gene_labels={place / 'genes.tsv'}",),
    }
    changes = ("training.max_epochs=1", "training.accelerator=cpu", "eval.baselines=[random]", *own.get(name, ()))
    words = [word for change in changes for word in ("--set", change)]
    label = [] if name in own else ["--label", "bulk_labels"]
    data = ["--data", "dataset://pbmc68k_reduced", "--base-model", place / "base", "--out", tmp_path / "run"]
    invoke("finetune", "--task", name, *data, *label, *words)
    records = [json.loads(line) for line in (tmp_path / "run" / "exported_results.jsonl").read_text().splitlines()]
    expected = {"continued_pretraining": "embedding_quality"}.get(name, name)
    assert {record["benchmark"] for record in records} == {expected}
    names = {record["representation"] for record in records}
    assert "model" in names
    assert len(names) > 1  # never alone
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("val/loss" in line for line in losses)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["finetune"]["base_model_id"]


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_says_how_to_run_it(name):
    assert f"#   scmodelforge finetune --task {name} --base-model" in (FOLDER / f"{name}.yaml").read_text()
