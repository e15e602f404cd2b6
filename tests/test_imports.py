"""What is imported when: the package and the command line's help stay light."""

from __future__ import annotations

import subprocess
import sys

import scmodelforge

HEAVY = ("torch", "anndata", "lightning_fabric", "sklearn", "matplotlib", "scipy", "huggingface_hub")


def loaded_by(code: str) -> list[str]:
    """Return the heavy packages that a fresh interpreter has loaded after running the code."""
    probe = f"{code}\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return eval(done.stdout.strip().splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import scmodelforge") == []


def test_the_help_of_every_command_loads_neither_torch_nor_anndata():
    code = """
from typer.testing import CliRunner
from scmodelforge.cli.main import app
commands = ["train", "convert", "data", "embed", "predict", "evaluate", "tokenize", "tokenizer", "models", "datasets",
            "config", "hub", "perturb"]
for words in ([], *([name] for name in commands), ["data", "bench"], ["tokenizer", "fetch"], ["hub", "push"]):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
"""
    assert loaded_by(code) == []


def test_splitting_data_loads_no_torch(tiny_h5ad, tmp_path):
    words = ["data", "split", str(tiny_h5ad), "--by", "donor_id", "-o", str(tmp_path / "split.json")]
    code = f"""
from typer.testing import CliRunner
from scmodelforge.cli.main import app
result = CliRunner().invoke(app, {words!r})
assert result.exit_code == 0, result.output
"""
    assert not {"torch", "anndata", "lightning_fabric", "sklearn"}.intersection(loaded_by(code))
    assert (tmp_path / "split.json").is_file()


def test_the_version_is_a_release_number():
    assert scmodelforge.__version__.count(".") == 2
