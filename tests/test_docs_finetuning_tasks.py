"""Settings on the page of fine-tuning tasks train as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scmodelforge._registry import HEADS, TASKS
from scmodelforge.hub.bundle import save_bundle
from tests.test_docs import blocks
from tests.test_finetuning.conftest import scored_cells
from tests.test_finetuning.test_gene_classification import CLASSES, write
from tests.test_life_cycle import invoke
from tests.test_workflows.ready_models import BINNED, ready_model

PAGE = (Path(__file__).parents[1] / "docs" / "finetuning_tasks.md").read_text()


@pytest.mark.parametrize("text", blocks("finetuning_tasks.md", "yaml"))
def test_settings_train(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scored_cells(60).write_h5ad(tmp_path / "cells.h5ad")
    save_bundle(tmp_path / "base", ready_model(tokenizer=BINNED, pooling="mean"), card="")
    write(tmp_path, CLASSES)
    config = yaml.safe_load(text)
    config["data"]["num_workers"] = 0
    config["training"] = {"batch_size": 16, "max_epochs": 1, "steps_per_epoch": 2, "accelerator": "cpu"}
    config["eval"] = {"benchmarks": []}
    config["output"] = {"run_dir": str(tmp_path / "run"), "tensorboard": False}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", tmp_path / "run.yaml")


@pytest.mark.parametrize("task", ["cell_type_annotation", "regression", "gene_classification"])
def test_the_page_has_all_settings_of_a_task_of_its_own(task):
    base = {"base_model", "base_model_id", "dictionaries", "trust_plugins", "task", "adaptation", "last_layers",
            "epochs_per_layer", "lora"}  # fmt: skip
    section = TASKS.get(task).config_class
    assert all(name in PAGE for name in section.model_fields if name not in base)
    assert TASKS.get(task).head_kind in HEADS.names()
