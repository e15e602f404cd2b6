"""Settings and code in the documents are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from tests.conftest import make_adata

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("data.md", "yaml"))
def test_settings_of_the_data_page_are_valid(text, tmp_path):
    if "paths:" not in text and "source:" not in text:
        text = text.replace("data:\n", "data:\n  paths: [lung.h5ad]\n", 1)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert load_config(path).data.source in ("local", "cellxgene_census", "mixture")


@pytest.mark.parametrize("text", blocks("binning.md", "yaml"))
def test_settings_of_the_page_on_binning_are_valid(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
    assert load_config(path).tokenizer.strategy == "binned_expression"


def code_with(text: str) -> str:
    """Return the block of code of the data page that has a text."""
    (code,) = (block for block in blocks("data.md", "python") if text in block)
    return code


def test_every_block_of_code_of_the_data_page_is_run_by_a_test():
    """Those that need an extra are run with the other tests of their part."""
    texts = ["CellLoader(", "import lightning", "import scvi", "find_perturbation_columns"]
    assert sorted(map(code_with, texts)) == sorted(blocks("data.md", "python"))


def test_code_about_perturbations_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = make_adata(4, 5)
    adata.obs["condition"] = ["ctrl", "A+ctrl", "A+B", "ctrl"]
    adata.write_h5ad("screen.h5ad")
    names: dict = {}
    exec(code_with("find_perturbation_columns"), names)
    assert (names["columns"].perturbation, names["columns"].control) == ("condition", "ctrl")


def test_code_of_the_data_page_runs(tmp_path, monkeypatch):
    code = code_with("CellLoader(")
    monkeypatch.chdir(tmp_path)
    make_adata(70, 30).write_h5ad("lung.h5ad")
    names: dict = {}
    exec(code, names)
    assert names["batch"]["input_ids"].shape[0] == 70 % 32


def test_commands_and_code_of_the_tokenizer_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_adata(20, 30).write_h5ad("lung.h5ad")
    make_adata(20, 30, seed=1).write_h5ad("blood.h5ad")
    commands = [line for text in blocks("tokenizers.md", "bash") for line in text.splitlines()]
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
    (code,) = blocks("tokenizers.md", "python")
    vocab = (Path("tokenizer") / "vocab.json").read_text()
    code = code.replace("ENSG00000010610", next(iter(re.findall(r"ENSG\d{11}", vocab))))
    names: dict = {}
    exec(code, names)
    assert len(names["cell"]["input_ids"]) == 2  # <cls> and the gene that the vocabulary knows
    assert (Path("elsewhere") / "tokenizer.json").exists()
