"""What tests of the commands on models share: a model folder, the command line, the files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import save_bundle
from scmodelforge.workflows.card import model_card
from tests.test_hub.test_bundle import make_bundle


def invoke(*words, code: int = 0):
    result = CliRunner().invoke(app, ["hub", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def model(tmp_path) -> Path:
    bundle = make_bundle()
    save_bundle(tmp_path / "model", bundle, card=model_card(bundle_with_facts(bundle)))
    return tmp_path / "model"


def bundle_with_facts(bundle):
    bundle.fingerprint = {"config_hash": "0" * 64, "step": 7, "num_train": 40, "num_validation": 0}
    return bundle


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
