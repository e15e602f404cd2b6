"""What the README shows works: its settings are valid, its commands exist, CI runs its two commands as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.data.vocab import GeneVocab
from tests.conftest import make_adata
from tests.test_data.zarr_stores import write_store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [README, *(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL)]
COMMANDS = [
    line.partition("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith("scmodelforge ")
]


def test_the_example_settings_are_valid(tmp_path):
    first = next(text for kind, text in BLOCKS if kind == "yaml" and "lung_a.h5ad" in text)
    (tmp_path / "lung.yaml").write_text(first)
    config = load_config(tmp_path / "lung.yaml")
    assert config.training.optimizer.lr == 1e-4


# Recipes leave data and base model to whoever uses them: they are checked in test_config.
SHIPPED = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "recipes")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_settings_are_valid(path):
    load_config(path)


@pytest.mark.parametrize("name", ["autoregressive", "masked_autoencoder"])
def test_shipped_settings_on_embedded_data_train(name, tmp_path):
    words = ["train", "--config", str(ROOT / f"configs/examples/{name}.yaml")]
    for change in (f"output.run_dir={tmp_path / 'run'}", "training.max_epochs=1", "training.steps_per_epoch=2"):
        words += ["--set", change]
    result = CliRunner().invoke(app, [*words, "--set", "eval.benchmarks=[]"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_has_the_options_it_uses(command):
    words = shlex.split(command)[1:]
    groups = {"config", "data", "models", "datasets", "results", "tokenizer", "hub"}
    depth = 2 if words[0] in groups else 1
    text = CliRunner().invoke(app, [*words[:depth], "--help"]).output
    assert "Usage" in text
    for option in [word.partition("=")[0] for word in words[depth:] if word.startswith("--")]:
        assert option in text, f"{command}: no option {option}"


@pytest.mark.slow
def test_the_commands_for_your_own_cells_run_as_written_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    genes = GeneVocab.from_name("human_protein_coding").genes[:60]
    for number, name in enumerate(("lung_a.h5ad", "lung_b.zarr", "new.h5ad")):
        adata = make_adata(60, 50, seed=number)
        adata.var_names = genes[number : number + 50]
        if name.endswith(".zarr"):
            write_store(tmp_path, adata, name)
        else:
            adata.write_h5ad(tmp_path / name)
    (tmp_path / "lung.yaml").write_text(next(text for kind, text in BLOCKS if kind == "yaml" and "lung_a" in text))
    (tmp_path / "my_model.py").write_text(next(text for kind, text in BLOCKS if kind == "python" and "MyModel" in text))
    example = ROOT / "configs/examples/autoregressive.yaml"
    quick = ["training.max_epochs=1", "training.steps_per_epoch=2", "eval.benchmarks=[]", "output.run_dir=runs/ar"]
    first = ["train", "--config", str(example), *(word for change in quick for word in ("--set", change))]
    section = README.partition("## Train on your own cells")[2].partition("\n## ")[0]
    shown = [line.partition("#")[0] for line in section.splitlines() if line.startswith("scmodelforge ")]
    inline = re.findall(r"`scmodelforge ((?:config|models) [^`]+)`", README)
    assert len(shown) == 7
    assert len(inline) == 3
    for words in [first, *(shlex.split(line)[1:] for line in shown), *map(shlex.split, inline)]:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{words}: {result.output} {result.exception}"


def test_continuous_integration_runs_the_two_commands_as_written():
    script = (ROOT / ".ci" / "run").read_text()
    first_screen = README.partition("\n## ")[0]
    commands = re.findall(r"```bash\n(.*?)\n```", first_screen, flags=re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command in script
