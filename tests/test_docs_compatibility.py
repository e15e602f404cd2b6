"""The page on other tools: its settings, its command and its code are those of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.eval.cz_benchmarks import METRICS
from tests.conftest import make_adata
from tests.test_docs import DOCS, blocks
from tests.test_eval.test_perturbation.screens import HELD_OUT, only, screen
from tests.test_life_cycle import train

PAGE = "evaluation/compatibility.md"


def test_settings_are_valid_and_name_every_task(tmp_path):
    (text,) = blocks(PAGE, "yaml")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"data": {"paths": ["lung.h5ad"]}}) + text)
    (config,) = load_config(path).eval.benchmarks
    assert config.tasks == list(METRICS)


def test_every_metric_is_on_it():
    page = (DOCS / PAGE).read_text()
    for metric in (name for names in METRICS.values() for name in names):
        if metric.startswith("czb_mean_fold_"):
            kind, classifier = metric.removeprefix("czb_mean_fold_").split("_")
            assert f"`{classifier}`" in page, metric
            assert f"`{kind}`" in page, metric
        else:
            assert f"`{metric}`" in page, metric


@pytest.mark.slow
def test_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screen().write_h5ad("screen.h5ad")
    only(screen(seed=1), HELD_OUT).write_h5ad("predicted.h5ad")
    (command,) = blocks(PAGE, "bash")
    result = CliRunner().invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path("for_cell_eval").iterdir()} == {"pred.h5ad", "real.h5ad"}


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_adata(40, 30).write_h5ad("cells.h5ad")
    train(tmp_path, tmp_path / "cells.h5ad", training__max_epochs=1, eval__benchmarks=[])
    (code,) = blocks(PAGE, "python")
    names: dict = {}
    exec(code, names)
    assert names["embeddings"].shape == (40, 16)
    assert np.isfinite(names["embeddings"]).all()
