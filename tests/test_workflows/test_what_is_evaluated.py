"""What a run's evaluation takes in beside embeddings: a model's own head, pairs of data sets, and the splits."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.eval.benchmarks.label_transfer import LabelTransferConfig
from scmodelforge.eval.records import read_records
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.workflows.label_transfer import transfer_sets
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with two files of cells, and a run that learned the types of the first."""
    folder = tmp_path_factory.mktemp("runs")
    make_adata(120, 30).write_h5ad(folder / "cells.h5ad")
    make_adata(90, 30, seed=1).write_h5ad(folder / "others.h5ad")
    transfer = {"reference": str(folder / "cells.h5ad"), "dataset": str(folder / "others.h5ad"), "label": "cell_type"}
    config = settings(folder / "cells.h5ad", folder / "run", training__max_epochs=6)
    config["training"]["optimizer"] = {"lr": 1e-2}
    config["model"] = {"architecture": "scdiva", "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 24}
    config["model"] |= {"pretraining_task": "cell_type_annotation", "beta": 1e-3}
    config["tokenizer"] = {"strategy": "binned_expression", "max_genes": 24}
    benchmarks = ["cell_type_annotation", {"label_transfer": {**transfer, "probes": ["knn"]}}]
    config["eval"] |= {"benchmarks": benchmarks}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    return folder


def by_key(path: Path) -> dict[tuple[str, str], object]:
    return {(record.representation, record.key): record for record in read_records(path)}


def test_the_model_s_own_head_is_scored_beside_linear_probes_of_baselines(folder):
    found = by_key(folder / "run" / "exported_results.jsonl")
    key, probe = (f"eval/cell_type_annotation/heldout/accuracy_{name}" for name in ("head", "linear_probe"))
    rivals = {name for name, other in found if other == probe} - {"model", "random"}
    assert {name for name, other in found if other == key} == {"model"} | rivals
    assert rivals >= {"pca", "hvg", "untrained"}
    assert all(found[name, key].value == found[name, probe].value for name in rivals)
    record = found["model", key]
    assert record.value > record.baselines["majority"]
    assert (np.trace(record.tables["confusion"]) / record.n) == pytest.approx(record.value)


def test_labels_are_carried_to_another_data_set_for_model_and_baselines(folder):
    found = by_key(folder / "run" / "exported_results.jsonl")
    key = "eval/label_transfer/cells_to_others/accuracy_knn15"
    assert {"model", "pca", "random", "untrained"} <= {name for name, other in found if other == key}
    assert found["model", key].n == 90
    assert (found["model", key].params["trained_on_reference"], found["model", key].params["trained_on_query"]) == (
        True,
        False,
    )


def test_alone_it_says_the_same_as_after_training(folder):
    out = folder / "again.jsonl"
    invoke("evaluate", folder / "run", "--out", out)
    first, again = by_key(folder / "run" / "exported_results.jsonl"), by_key(out)
    assert first.keys() == again.keys()
    assert {place: record.value for place, record in first.items()} == {
        place: record.value for place, record in again.items()
    }


def test_a_label_with_few_cells_in_a_sample_is_scored_if_the_data_have_many(folder):
    out = folder / "sample.jsonl"
    words = ("--data", folder / "others.h5ad", "--label", "cell_type", "--benchmark", "cell_type_annotation")
    invoke("evaluate", folder / "run", *words, "--max-cells", 12, "--out", out)
    record = by_key(out)["model", "eval/cell_type_annotation/heldout/accuracy_linear_probe"]
    assert (record.params["labels_left_out"], record.n, record.n_skipped) == ([], 12, 0)


def test_a_label_that_is_rare_in_both_data_sets_together_is_left_out_with_its_numbers(folder, tmp_path):
    for name in ("cells", "others"):
        adata = ad.read_h5ad(folder / f"{name}.h5ad")
        adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
        adata.obs.iloc[:4, adata.obs.columns.get_loc("cell_type")] = "rare" if name == "cells" else "scarce"
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    config = LabelTransferConfig(
        reference=str(tmp_path / "cells.h5ad"),
        dataset=str(tmp_path / "others.h5ad"),
        label="cell_type",
        mapping={"scarce": "rare"},
        probes=["knn"],
    )
    bundle = load_bundle(folder / "run" / "model")
    own = {"untrained": lambda: None, "baselines": [], "max_cells": 40, "batch_size": 16, "seed": 0}
    (pair,) = transfer_sets([config], bundle, **own)
    record = next(each for each in pair.of_noise() if each.metric == "accuracy_knn15")
    assert record.skipped_reason.endswith("of labels with fewer than 10 cells in the data: rare (8)")


def test_splits_of_other_data_lie_beside_the_records(folder):
    out = folder / "others.jsonl"
    words = ("--data", folder / "others.h5ad", "--label", "cell_type", "--benchmark", "cell_type_annotation")
    invoke("evaluate", folder / "run", *words, "--out", out)
    stored = json.loads((folder / "others.splits" / "heldout.json").read_text())
    assert {record.split_hash for record in read_records(out)} == {stored["split_hash"]}


@pytest.fixture(scope="module")
def of_genes(folder) -> Path:
    """Return a run of a transformer that is asked about genes too."""
    genes = make_adata(120, 30).var_names
    edges = [f"{genes[i]}\t{genes[j]}" for i in range(3) for j in range(3 + i, 30, 3)]
    (folder / "edges.tsv").write_text("\n".join(["tf\ttarget", *edges]) + "\n")
    network = {"networks": [str(folder / "edges.tsv")], "score": "attention", "num_cells": 20, "baselines": ["random"]}
    config = settings(folder / "cells.h5ad", folder / "genes", training__max_epochs=1)
    config["eval"] |= {"benchmarks": ["embedding_quality", {"gene_network_inference": network}]}
    (folder / "genes.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "genes.yaml")
    return folder / "genes"


def test_genes_of_the_model_and_of_the_untrained_one_are_scored(of_genes):
    found = by_key(of_genes / "exported_results.jsonl")
    key = "eval/gene_network_inference/heldout/auroc_attention_edges"
    assert {name for name, other in found if other == key} == {"model", "untrained"}
    assert {"random", "untrained", "permuted_network"} <= set(found["model", key].baselines)


def test_a_benchmark_asked_for_by_name_has_the_run_s_settings(of_genes):
    out = of_genes.parent / "named.jsonl"
    invoke("evaluate", of_genes, "--benchmark", "gene_network_inference", "--out", out)
    again, first = by_key(out), by_key(of_genes / "exported_results.jsonl")
    assert {place[1] for place in again} == {place[1] for place in first if "gene_network" in place[1]}
    assert {place: record.value for place, record in again.items()} == {place: first[place].value for place in again}


def test_what_a_run_cannot_be_asked_is_refused_before_its_first_step(folder, of_genes):
    words = ("train", "--config", of_genes.with_suffix(".yaml"), "--set", f"output.run_dir={folder / 'none'}", "--set")
    done = CliRunner().invoke(app, [str(word) for word in (*words, "eval.benchmarks=[vcc]")])
    assert done.exit_code == 2
    assert "which this run does not learn; set finetune.task" in done.stderr
    assert not (folder / "none").exists()
