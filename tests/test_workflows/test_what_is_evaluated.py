"""What a run's evaluation takes in beside embeddings: a model's own head, pairs of data sets, and the splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from scmodelforge.eval.records import read_records
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
    config["eval"] |= {"benchmarks": ["cell_type_annotation", {"label_transfer": {**transfer, "probes": ["knn"]}}]}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    return folder


def by_key(path: Path) -> dict[tuple[str, str], object]:
    return {(record.representation, record.key): record for record in read_records(path)}


def test_the_model_s_own_head_is_scored_and_baselines_have_none(folder):
    found = by_key(folder / "run" / "exported_results.jsonl")
    key = "eval/cell_type_annotation/heldout/accuracy_head"
    assert {name for name, other in found if other == key} == {"model"}
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


def test_splits_of_other_data_lie_beside_the_records(folder):
    out = folder / "others.jsonl"
    words = ("--data", folder / "others.h5ad", "--label", "cell_type", "--benchmark", "cell_type_annotation")
    invoke("evaluate", folder / "run", *words, "--out", out)
    stored = json.loads((folder / "others.splits" / "heldout.json").read_text())
    assert {record.split_hash for record in read_records(out)} == {stored["split_hash"]}
