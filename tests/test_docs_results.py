"""The page on results: its settings are valid, its commands run as written, its code exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.eval.kinds_of_params import OUTCOMES
from scmodelforge.workflows.baseline_embeddings import BASELINES
from tests.conftest import make_adata
from tests.test_life_cycle import settings

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation" / "results.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_settings_are_valid(tmp_path):
    (text,) = blocks("yaml")
    (tmp_path / "run.yaml").write_text(f"data:\n  paths: [lung.h5ad]\n  label_column: cell_type\n{text}")
    config = load_config(tmp_path / "run.yaml")
    assert (config.eval.every_n_steps, config.eval.every_n_epochs) == (500, None)
    assert config.eval.baselines == type(config.eval)().baselines  # as the page says, these are the defaults


def test_every_baseline_is_in_its_table():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(BASELINES)
    assert "converged" in OUTCOMES


@pytest.mark.slow
def test_its_commands_run_as_written_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_adata(60, 30).write_h5ad("cells.h5ad")
    for name, seed in (("a", 0), ("b", 1)):
        config = settings(tmp_path / "cells.h5ad", tmp_path / "runs" / name, training__max_epochs=1)
        config["training"] |= {"steps_per_epoch": 1, "seed": seed}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
        run("train", f"{name}.yaml")
    commands = [line.partition("  #")[0] for text in blocks("bash") for line in text.splitlines()]
    assert len(commands) == 9
    for command in commands:
        run(*shlex.split(command)[1:])
    assert {path.suffix for path in Path("pictures").iterdir()} == {".png"}


def run(*words: str) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output


def test_the_code_it_names_is_there():
    for name in re.findall(r"`(scmodelforge(?:\.\w+)+)\(", PAGE):
        module, _, function = name.rpartition(".")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
