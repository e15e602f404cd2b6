"""``scmodelforge models list``, and commands that take the address of a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge._registry import IMPORTERS, MODELS
from scmodelforge.cli.main import app
from scmodelforge.hub import load_model, save_bundle
from scmodelforge.hub.pretrained import FILE, list_pretrained
from scmodelforge.workflows.results import run_names
from tests.conftest import make_adata
from tests.test_hub.test_bundle import make_bundle
from tests.test_hub.toy_importer import ToyImporter, publish


def invoke(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


class TestListOfPublishedModels:
    @pytest.fixture(autouse=True)
    def caches(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "own"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def test_every_one_is_there_with_its_facts_in_100_columns(self):
        lines = invoke("models", "list", "--pretrained").stdout.splitlines()
        assert max(map(len, lines)) <= 100
        rows = {line.split()[0]: line.split() for line in lines if line.startswith(" ") and line.strip()}
        assert rows["geneformer-v1"][1:] == ["10.3", "M", "human", "Apache-2.0", "geneformer-v1,", "25,426", "no"]
        for model in list_pretrained():
            assert rows[model.name][4] == model.licence
            where = model.page if model.hub is None else f"hf://{model.hub.repository}/{model.hub.folder}"
            assert f"{model.name}: {where}" in lines

    def test_what_is_on_this_machine_is_said(self, tmp_path):
        folder = tmp_path / "own" / "pretrained" / "scgpt-human"
        folder.mkdir(parents=True)
        for name in ("args.json", "best_model.pt", "vocab.json"):
            (folder / name).touch()
        result = invoke("models", "list", "--pretrained")
        lines = [line.split() for line in result.stdout.splitlines() if line.startswith(" ")]
        here = {words[0]: words[-1] for words in lines if words and words[-1] in ("yes", "no")}
        assert here == {model.name: "yes" if model.name == "scgpt-human" else "no" for model in list_pretrained()}
        assert str(folder.parent) in result.stderr
        rows = json.loads(invoke("models", "list", "--pretrained", "--json").stdout)
        assert {row["name"]: row["here"] for row in rows if row["here"]} == {"scgpt-human": str(folder)}

    def test_in_json_it_is_the_published_list(self):
        rows = json.loads(invoke("models", "list", "--pretrained", "--json").stdout)
        for row in rows:
            del row["here"]
        assert rows == json.loads(FILE.read_text(encoding="utf-8"))["models"]

    def test_without_the_option_models_to_train_are_listed(self):
        rows = json.loads(invoke("models", "list", "--json").stdout)
        assert [row["name"] for row in rows] == MODELS.names()


@pytest.fixture
def toy(monkeypatch) -> type[ToyImporter]:
    IMPORTERS.names()
    monkeypatch.setitem(IMPORTERS._parts, "toy", ToyImporter)
    monkeypatch.setattr(ToyImporter, "asked", [])
    return ToyImporter


@pytest.fixture
def cells(tmp_path) -> Path:
    make_adata(60, 20).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


class TestEvaluate:
    WORDS = ("--label", "cell_type", "--benchmark", "cell_type_annotation", "--json", "--split-by", "cells")

    def test_an_imported_model_beside_one_of_ours(self, tmp_path, cells, toy):
        published = publish(tmp_path / "toy-7b")
        save_bundle(tmp_path / "own", make_bundle(), card="")
        words = [published, tmp_path / "own", "--data", cells, *self.WORDS, "--dictionaries", tmp_path]
        result = invoke("evaluate", *words, "--baselines", "pca")
        records = [json.loads(line) for line in result.stdout.splitlines()]
        of_model = [record for record in records if record["representation"] == "model"]
        found = {record["run"]: (record["params"]["model_origin"], record["model_id"]) for record in of_model}
        assert found == {
            "toy-7b": (str(published), load_model(published).model_id),
            "own": (str(tmp_path / "own"), "000000000000@7"),
        }
        assert (tmp_path, None) in toy.asked
        # The same weights and the same cells: the same scores.
        scores = [[r["value"] for r in of_model if r["run"] == run] for run in found]
        assert scores[0] == scores[1]
        assert len(scores[0]) > 1
        assert "has a vocabulary of its own" in result.stderr

    def test_an_address_after_baselines_is_a_model(self, cells):
        result = invoke("evaluate", "--data", cells, "--baselines", "s3://bucket/toy", code=2)
        assert "unknown scheme 's3://'" in result.stderr

    def test_a_model_without_cells_of_its_own_needs_data(self):
        assert "hf://me/toy is not a run folder" in invoke("evaluate", "hf://me/toy", code=2).stderr

    def test_dictionaries_have_no_effect_with_predictions(self, cells):
        words = ["--predictions", cells, "--data", cells, "--dictionaries", cells.parent]
        assert "--dictionaries has no effect with --predictions" in invoke("evaluate", *words, code=2).stderr

    def test_what_models_are_called(self, tmp_path):
        (tmp_path / "lung").mkdir()
        given = [tmp_path / "lung", "hf://me/toy", "hf://me/toy@v1.0", "hf://you/all/small/", "scmodelforge://scGPT"]
        assert run_names(given) == ["lung", "toy", "toy@v1.0", "small", "scGPT"]
        assert run_names(["hf://me/toy", "hf://you/toy"]) == ["hf://me/toy", "hf://you/toy"]


BAD = [
    ("nowhere", "nowhere: no such folder"),
    ("hf://toy", "an address on the hub is hf://owner/name"),
    ("s3://bucket/toy", "unknown scheme 's3://'"),
    ("scmodelforge://", "name a model, such as scmodelforge://geneformer-v2"),
    ("empty", "neither a model folder nor a run folder"),
]


@pytest.mark.parametrize(("address", "message"), BAD)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_an_address_that_leads_nowhere_is_answered_in_one_line(command, address, message, tmp_path, cells, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = {
        "generate": ["generate", "out.h5ad", "--model", address],
        "evaluate": ["evaluate", address, "--data", cells, "--label", "cell_type"],
    }
    result = invoke(*words[command], code=2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "empty"]


def test_code_of_a_model_is_not_run_by_a_command_unasked(tmp_path, cells):
    from tests.test_hub import test_bundle

    folder, mark = test_bundle.TestPlugins().saved(tmp_path, "own_of_a_command")
    words = ["evaluate", folder, "--data", cells, "--label", "cell_type"]
    assert "--trust-plugins" in invoke(*words, code=2).stderr
    assert not mark.exists()
