"""A user's own model in one file: trained through ``plugins``, resumed, moved, embedded with."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_life_cycle import settings

# As the README shows it: no terms, no objective, no settings of its own, a loss that is NaN without targets.
README = (Path(__file__).parents[1] / "README.md").read_text()
CODE = re.search(r"```python\n(# my_model\.py.*?)```", README, flags=re.DOTALL).group(1)


def forget() -> None:
    """Do as a process that never saw the plugin."""
    MODELS._parts.pop("my_model", None)
    for module in [module for module in sys.modules if module.startswith("scmodelforge_plugin_my_model")]:
        del sys.modules[module]


@pytest.fixture
def run(tmp_path) -> Path:
    forget()
    (tmp_path / "my_model.py").write_text(CODE)
    make_adata(60, 30).write_h5ad(tmp_path / "cells.h5ad")
    config = settings(tmp_path / "cells.h5ad", tmp_path / "run", training__max_epochs=1)
    config["plugins"] = ["my_model.py"]
    config["model"] = {"architecture": "my_model", "hidden_dim": 8, "max_seq_len": 24}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "run.yaml")])
    assert result.exit_code == 0, result.output
    yield tmp_path / "run"
    forget()


def test_a_moved_model_folder_needs_trust_and_then_embeds(run, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(run / "model", moved)
    (tmp_path / "my_model.py").unlink()
    forget()
    words = ["embed", str(tmp_path / "cells.h5ad"), str(tmp_path / "out.h5ad"), "--model", str(moved)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "--trust-plugins" in refused.stderr
    done = CliRunner().invoke(app, [*words, "--trust-plugins"])
    assert done.exit_code == 0, done.output
    assert np.isfinite(ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scmodelforge"]).all()


def test_a_run_of_it_resumes_and_evaluates(run):
    forget()
    for words in (["train", "--resume", str(run)], ["evaluate", str(run)]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output


def test_it_keeps_the_contract(tmp_path, monkeypatch):
    forget()
    (tmp_path / "my_model.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["models", "check", "./my_model.py:MyModel"])
    forget()
    assert result.exit_code == 0, result.output
