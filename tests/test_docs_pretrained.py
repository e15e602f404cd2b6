"""The page on addresses and published models: its commands and code run as written, its table has every field."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge._registry import IMPORTERS
from scmodelforge.cli.main import app
from scmodelforge.hub import save_bundle
from scmodelforge.hub.addresses import LocalFolder, NamedModel, parse_address
from scmodelforge.hub.pretrained import PretrainedModel, get_pretrained
from tests.conftest import make_adata
from tests.test_hub.test_bundle import make_bundle
from tests.test_hub.toy_importer import ToyImporter, publish

PAGE = (Path(__file__).parents[1] / "docs" / "pretrained.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for text in blocks("bash") for line in text.splitlines()]


def code_with(text: str) -> str:
    (code,) = (block for block in blocks("python") if text in block)
    return code


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Return a folder to be in, with the model, cells and published model of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    save_bundle(tmp_path / "runs" / "lung" / "model", make_bundle(), card="")
    adata = make_adata(60, 20)
    adata.obs["donor"] = adata.obs["donor_id"]
    for name in ("cells", "new"):
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    publish(tmp_path / "published")
    IMPORTERS.names()
    monkeypatch.setitem(IMPORTERS._parts, "toy", ToyImporter)
    return tmp_path


def invoke(command: str):
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return result


def test_commands_on_models_that_are_here_run(runs):
    invoke(commands()[0])
    assert (runs / "embedded.h5ad").is_file()
    assert "geneformer-v2" in invoke(commands()[-1]).stdout


def test_the_command_on_two_models_runs(runs):
    """With the folder of another published model in place of the one that would have to be fetched."""
    command = commands()[1].replace("scmodelforge://scgpt-human", "published")
    table = next(line for line in invoke(command).stdout.splitlines() if " lung" in line and "published" in line)
    assert table.split()[-3:]


def test_the_command_that_generates_is_one(runs):
    """With a model in place of the one that would have to be fetched; this one cannot generate."""
    command = commands()[2].replace("hf://owner/lung-ar@v1.0", "runs/lung")
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 2
    assert "cannot generate cells" in result.stderr


def test_every_address_is_one_and_every_name_is_in_the_list():
    words = [word.strip("`") for word in re.findall(r"`?[\w:/.@-]+`?", PAGE) if "://" in word]
    found = [parse_address(word) for word in words if word not in ("hf://", "scmodelforge://")]
    assert not any(isinstance(each, LocalFolder) for each in found)
    names = {each.name for each in found if isinstance(each, NamedModel)}
    assert names == {"geneformer-v2", "scgpt-human"}
    assert all(get_pretrained(name).name == name for name in names)


def test_the_code_that_loads_a_model_runs(runs):
    names: dict = {}
    exec(code_with("load_model"), names)
    assert names["bundle"].origin == str(Path("runs/lung"))
    assert names["bundle"].model_id == "000000000000@7"


def test_the_code_of_other_tools_imports_nothing_of_ours():
    code = code_with("find_spec") + (
        "import sys\nassert not any(name.startswith('scmodelforge') for name in sys.modules)\n"
        "print(json.dumps(checksums))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {path: checksum for path, checksum in json.loads(done.stdout).items() if checksum}
    assert found == get_pretrained("geneformer-v2").checksums


def test_every_field_of_a_model_is_in_its_table():
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition("| field |")[2], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(PretrainedModel.model_fields)


def test_every_block_is_run_by_a_test():
    assert len(commands()) == 4
    assert sorted(blocks("python")) == sorted(map(code_with, ("load_model", "find_spec")))
