"""The page on batch integration: its settings are valid, its commands and code run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from scmodelforge import datasets
from scmodelforge.config import load_config
from scmodelforge.finetuning.integration_head import BatchIntegrationHeadConfig
from tests.test_docs import DOCS, blocks
from tests.test_life_cycle import invoke

PAGE = "batch_integration.md"
ROOT = DOCS.parent
#: So that it takes seconds: these are added to both trainings.
SHORT = {
    "training.max_epochs": 1,
    "data.num_workers": 0,
    "eval.benchmarks": "[]",
    "output.tensorboard": "false",
}


def test_settings_are_valid_and_all_are_explained(tmp_path):
    (text,) = blocks(PAGE, "yaml")
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n  batch_column: batch\n{text}")
    head = load_config(path).finetune.head
    assert isinstance(head, BatchIntegrationHeadConfig)
    assert head.model_fields_set >= set(BatchIntegrationHeadConfig.model_fields) - {"kind"}
    assert head == BatchIntegrationHeadConfig(), "the page shows the defaults"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "configs", tmp_path / "configs")
    datasets.load("pbmc68k_reduced")[:50].to_memory().write_h5ad("cells.h5ad")
    for text in blocks(PAGE, "bash"):
        program, *words = shlex.split(text.replace("\\\n", " "))
        assert program == "scmodelforge"
        if words[0] in ("train", "finetune"):
            words += [word for name, value in SHORT.items() for word in ("--set", f"{name}={value}")]
        invoke(*words)
    (code,) = blocks(PAGE, "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("(50, ")
    assert Path("integrated.h5ad").exists()
