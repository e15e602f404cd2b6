"""What the README shows works: its settings are valid, its commands exist, CI runs its two commands as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL)]
COMMANDS = [
    line.partition("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.startswith("scmodelforge ")
]


def test_the_example_settings_are_valid(tmp_path):
    first = next(text for kind, text in BLOCKS if kind == "yaml" and "lung_a.h5ad" in text)
    (tmp_path / "lung.yaml").write_text(first)
    config = load_config(tmp_path / "lung.yaml")
    assert config.training.optimizer.lr == 1e-4


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
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
    groups = {"config", "models", "datasets"}
    depth = 2 if words[0] in groups else 1
    text = CliRunner().invoke(app, [*words[:depth], "--help"]).output
    assert "Usage" in text
    for option in [word.partition("=")[0] for word in words[depth:] if word.startswith("--")]:
        assert option in text, f"{command}: no option {option}"


def test_continuous_integration_runs_the_two_commands_as_written():
    script = (ROOT / ".ci" / "run").read_text()
    first_screen = README.partition("\n## ")[0]
    commands = re.findall(r"```bash\n(.*?)\n```", first_screen, flags=re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command in script
