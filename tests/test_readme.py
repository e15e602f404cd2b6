"""What the README shows works: its settings are valid, its commands exist, CI runs its two commands as written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import anndata as ad
import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.connectome import is_connectome_file, load_connectome_config
from scmodelforge.config.load import load_config
from scmodelforge.data.vocab import GeneVocab
from tests.conftest import make_adata
from tests.test_data.zarr_stores import write_store
from tests.test_life_cycle import interrupt, invoke

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
    (load_connectome_config if is_connectome_file(path) else load_config)(path)


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
    groups = {"config", "data", "models", "datasets", "results", "tokenizer", "hub", "connectome"}
    depth = 2 if words[0] in groups else 1
    text = CliRunner().invoke(app, [*words[:depth], "--help"]).output
    assert "Usage" in text
    for option in [word.partition("=")[0] for word in words[depth:] if word.startswith("--")]:
        assert option in text, f"{command}: no option {option}"


#: By which the commands of the page take seconds; with its own settings, and scores, they run in the slow test.
SMALL = {
    "max_genes: 2048": "max_genes: 32",
    "hidden_dim: 256": "hidden_dim: 16",
    "num_layers: 6": "num_layers: 1",
    "num_heads: 8": "num_heads: 2",
    "max_epochs: 10": "max_epochs: 1",
    "benchmarks: [cell_type_annotation, embedding_quality]": "benchmarks: []",
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Return a folder with the files that the commands for your own cells name, in which they run."""
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
    return tmp_path


def commands_for_own_cells() -> list[list[str]]:
    section = README.partition("## Train on your own cells")[2].partition("\n## ")[0]
    lines = [line.partition("#")[0] for line in section.splitlines() if line.startswith("scmodelforge ")]
    return [shlex.split(line)[1:] for line in lines]


def test_the_commands_for_your_own_cells_do_what_stands_beside_them(place):
    text = (place / "lung.yaml").read_text()
    for written, small in SMALL.items():
        assert written in text
        text = text.replace(written, small)
    (place / "lung.yaml").write_text(text)
    validate, train, resume, embed = commands_for_own_cells()[:4]
    invoke(*validate)
    assert not (place / "runs").exists()
    interrupt(*train, after=1)
    assert not (place / "runs" / "lung" / "model").exists()
    invoke(*resume)
    assert json.loads((place / "runs" / "lung" / "splits.json").read_text())["by"] == "donor_id"
    invoke(*embed)
    assert ad.read_h5ad("embedded.h5ad").obsm["X_scmodelforge"].shape == (60, 16)


@pytest.mark.slow
def test_the_commands_for_your_own_cells_run_as_written_one_after_another(place):
    example = ROOT / "configs/examples/autoregressive.yaml"
    quick = ["training.max_epochs=1", "training.steps_per_epoch=2", "eval.benchmarks=[]", "output.run_dir=runs/ar"]
    first = ["train", "--config", str(example), *(word for change in quick for word in ("--set", change))]
    shown = commands_for_own_cells()
    inline = re.findall(r"`scmodelforge ((?:config|models) [^`]+)`", README)
    assert len(shown) == 7
    assert len(inline) == 3
    said = {" ".join(words): invoke(*words) for words in [first, *shown, *map(shlex.split, inline)]}
    scores = [text for words, text in said.items() if words.startswith("evaluate ")]
    assert len(scores) == 2
    assert all(name in text for text in scores for name in ("model", "pca", "untrained"))


def test_continuous_integration_runs_the_two_commands_as_written():
    script = (ROOT / ".ci" / "run").read_text()
    first_screen = README.partition("\n## ")[0]
    commands = re.findall(r"```bash\n(.*?)\n```", first_screen, flags=re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command in script
