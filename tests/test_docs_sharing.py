"""The page on sharing: its commands and code run, against a hub on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle, save_bundle
from scmodelforge.workflows.card import model_card
from tests.conftest import make_adata
from tests.hub_stub import PUSHES
from tests.test_docs import DOCS, blocks
from tests.test_hub.conftest import hub
from tests.test_hub.test_bundle import make_bundle

__all__ = ["hub"]  # a fixture

pytestmark = PUSHES
PAGE = "sharing.md"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Work in a folder with a run's exported model and cells."""
    monkeypatch.chdir(tmp_path)
    bundle = make_bundle()
    save_bundle(tmp_path / "runs/lung/model", bundle, card=model_card(bundle))
    make_adata(12, 20).write_h5ad("cells.h5ad")
    return tmp_path


def test_its_commands_run(hub, place):
    commands = [line for text in blocks(PAGE, "bash") for line in text.splitlines()]
    assert len(commands) == 7
    for command in commands:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
    assert (place / "embedded.h5ad").is_file()
    assert (place / "package/mlflow_pkg/mlflow_model_artifact/MLmodel").is_file()
    assert "me/lung" in hub.repositories


def test_its_code_runs(hub, place):
    (code,) = blocks(PAGE, "python")
    names: dict = {}
    exec(code, names)
    assert names["vocabulary"].genes == load_bundle(place / "models/lung-again").vocab.genes
    assert hub.repositories["me/lung"].access == "private"


def test_its_message_is_that_of_the_package(hub, monkeypatch):
    from scmodelforge._errors import DataError
    from scmodelforge.hub.addresses import NamedModel
    from scmodelforge.hub.locate import locate

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SCMODELFORGE_CACHE", "~/.cache/scmodelforge")
    with pytest.raises(DataError) as caught:
        locate(NamedModel("geneformer-v2"))
    home = str(Path.home())
    (text,) = blocks(PAGE, "text")
    assert str(caught.value).replace(home, "~") == " ".join(text.split())


def test_its_table_has_what_a_package_has():
    text = (DOCS / PAGE).read_text()
    for name in ("model_display_name", "model_version", "licenses", "repository_link", "authors", "model_description"):
        assert f"`{name}`" in text
