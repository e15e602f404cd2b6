"""What the page on data sets says and shows holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge import datasets
from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from tests.test_docs import blocks

PAGE = "evaluation/datasets.md"
TEXT = (Path(__file__).parents[1] / "docs" / PAGE).read_text()


def test_its_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = blocks(PAGE, "bash")
    for command in text.splitlines():
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "split.json").is_file()


def test_its_settings_are_valid(tmp_path):
    (text,) = blocks(PAGE, "yaml")
    (tmp_path / "run.yaml").write_text(text)
    config = load_config(tmp_path / "run.yaml")
    assert [benchmark.dataset for benchmark in config.eval.benchmarks][:2] == ["tabula_sapiens", "immune_atlas"]


def test_its_code_runs():
    (code,) = blocks(PAGE, "python")
    names: dict = {}
    exec(code, names)
    assert names["file"].is_file()


@pytest.mark.parametrize("name", datasets.list_datasets())
def test_its_tables_name_every_data_set_and_its_columns(name):
    info = datasets.info(name)
    there, held_out = re.findall(rf"^\| `{name}` \|(.*)\|$", TEXT, re.MULTILINE)
    assert all(f"`{column}`" in there for column in info.columns)
    assert info.cells is None or f"{info.cells:,}" in there
    assert f"{info.split.fraction:.0%}".replace("%", " %") in held_out
    assert (
        info.is_shipped
        or re.search(r"[\w.]+\.h5ad", there) is None
        or re.search(r"`(\w+\.h5ad)`", there)[1] in info.where
    )
