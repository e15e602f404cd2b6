"""The commands that fetch, share and export models, against a hub on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from scmodelforge._errors import DataError, RunError
from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.hub import load_bundle, save_bundle
from scmodelforge.workflows import push_model as pushing
from scmodelforge.workflows import vcp_loader
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.card_text import is_edited, stated_licence
from scmodelforge.workflows.embedder import CellEmbedder
from scmodelforge.workflows.model_folders import new_folder
from scmodelforge.workflows.push_model import push_model
from scmodelforge.workflows.reproduce import Reproduction, tolerance
from tests.conftest import make_adata
from tests.hub_stub import PUSHES, READ_TOKEN, TOKEN
from tests.test_hub.test_bundle import make_bundle

pytestmark = PUSHES


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


class TestPull:
    def test_into_a_folder(self, hub, model, tmp_path):
        hub.add("me/toy", {**contents(model), ".gitattributes": b"a"})
        result = invoke("pull", "hf://me/toy", tmp_path / "got")
        assert contents(tmp_path / "got") == contents(model)
        assert not any(path.is_symlink() for path in (tmp_path / "got").iterdir())  # it can be moved
        assert f"next: scmodelforge embed cells.h5ad embedded.h5ad --model {tmp_path / 'got'}" in result.stderr
        assert "transformer_encoder, 20 genes" in result.stderr

    def test_into_the_cache(self, hub, model):
        hub.add("me/toy", model)
        assert "--model hf://me/toy" in invoke("pull", "hf://me/toy").stderr
        invoke("pull", "hf://me/toy", "--offline")

    def test_a_folder_that_is_there_is_not_replaced_unasked(self, hub, model, tmp_path):
        hub.add("me/toy", model)
        invoke("pull", "hf://me/toy", tmp_path / "got")
        (tmp_path / "got/README.md").write_text("mine")
        assert (
            "exists; choose another name, or replace it with --force"
            in invoke("pull", "hf://me/toy", tmp_path / "got", code=2).stderr
        )
        assert (tmp_path / "got/README.md").read_text() == "mine"
        invoke("pull", "hf://me/toy", tmp_path / "got", "--force")
        assert contents(tmp_path / "got") == contents(model)

    def test_a_folder_of_something_else_is_never_replaced(self, hub, model, tmp_path):
        hub.add("me/toy", model)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/chapter1.txt").touch()
        result = invoke("pull", "hf://me/toy", tmp_path / "thesis", "--force", code=2)
        assert "holds something else (config.json not in it), so it is not replaced" in result.stderr

    def test_code_in_it_is_named_and_not_run(self, hub, model, tmp_path):
        settings = json.loads((model / "config.json").read_text())
        settings |= {"plugins": ["plugins/evil.py"]}
        settings["model"]["architecture"] = "evil"
        (model / "plugins").mkdir()
        (model / "plugins/evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
        (model / "config.json").write_text(json.dumps(settings))
        hub.add("me/toy", model)
        result = invoke("pull", "hf://me/toy", tmp_path / "got")
        assert "it needs Python code of its own (plugins/evil.py), which was not run" in result.stderr
        assert (tmp_path / "got/plugins/evil.py").is_file()
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"config.json": b'{"format_version": 99}'}, "model folder of format 99, this version reads format 1"),
            ({"vocab.json": None}, "not a complete model folder: vocab.json missing"),
            ({"config.json": b"{"}, "not readable as JSON"),
        ],
    )
    def test_what_cannot_be_used_is_refused_and_nothing_is_written(self, hub, model, tmp_path, change, what):
        files = {name: data for name, data in (contents(model) | change).items() if data is not None}
        hub.add("me/toy", files)
        result = invoke("pull", "hf://me/toy", tmp_path / "got", code=2)
        assert what in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "got").exists()

    @pytest.mark.slow
    def test_the_variables_of_the_hubs_client_count(self, hub, model, tmp_path):
        """In a process of its own, which reads them when it starts."""
        hub.add("me/toy", model, access="private")
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        command = [sys.executable, "-m", "scmodelforge.cli.main", "hub", "pull", "hf://me/toy"]
        subprocess.run(command, check=True, env=environment)
        assert (tmp_path / "home/hub/models--me--toy").is_dir()
        asked = len(hub.asked)
        subprocess.run(command, check=True, env=environment | {"HF_HUB_OFFLINE": "1"})
        assert len(hub.asked) == asked

    def test_a_folder_is_no_address_to_fetch(self, model):
        assert "is a folder on this machine; pull fetches" in invoke("pull", model, code=2).stderr

    def test_a_place_that_cannot_be_written_is_refused(self, hub, model, tmp_path):
        hub.add("me/toy", model)
        (tmp_path / "file").touch()
        result = invoke("pull", "hf://me/toy", tmp_path / "file/got", code=2)
        assert "cannot write to" in result.stderr


class TestPush:
    def test_with_a_card_that_names_its_address_and_licence(self, hub, model):
        result = invoke("push", model, "me/toy", "--licence", "MIT")
        files = hub.repositories["me/toy"].files()
        card = files["README.md"].decode()
        assert 'smf.tl.embed(adata, "hf://me/toy")' in card
        assert stated_licence(card) == "mit"
        assert "the same files and weights, and the same embeddings of 32 drawn cells" in result.stderr
        assert "the model is in no run folder" in result.stderr
        assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()

    def test_without_a_licence_says_so_and_states_none(self, hub, model):
        result = invoke("push", model, "me/toy", "--private")
        assert "no licence is stated" in result.stderr
        assert stated_licence(hub.repositories["me/toy"].files()["README.md"].decode()) is None
        assert hub.repositories["me/toy"].access == "private"

    def test_an_edited_card_is_pushed_as_it_is_but_for_the_licence(self, hub, model):
        (model / "README.md").write_text("# Mine\n")
        result = invoke("push", model, "hf://me/toy", "--licence", "mit")
        assert hub.repositories["me/toy"].files()["README.md"] == b"---\nlicense: mit\n---\n\n# Mine\n"
        assert "README.md was edited and is taken as it is" in result.stderr
        assert (model / "README.md").read_text() == "# Mine\n"

    def test_to_a_branch_the_card_says_which(self, hub, model):
        assert "pushed: hf://me/toy@v2, revision" in invoke("push", model, "me/toy", "--revision", "v2").stderr
        assert 'smf.tl.embed(adata, "hf://me/toy@v2")' in hub.repositories["me/toy"].files("v2")["README.md"].decode()

    def test_one_that_comes_back_changed_fails_with_status_1(self, hub, model):
        hub.spoil = {"tokenizer.json": b"{}"}
        result = invoke("push", model, "me/toy", code=1)
        assert "do not use this revision: loaded back it differs in tokenizer.json" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_token_that_may_not_write_is_one_line(self, hub, model, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
        result = invoke("push", model, "me/toy", code=2)
        assert "your token gives no right to do this (403" in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            (["--data", "cells.h5ad"], "--data and --label go together"),
            (["--label", "cell_type"], "--data and --label go together"),
        ],
    )
    def test_options_that_do_not_go_together_are_refused(self, hub, model, words, what):
        assert what in invoke("push", model, "me/toy", *words, code=2).stderr
        assert not hub.asked

    def test_a_name_that_is_none_is_refused(self, hub, model):
        assert "on the hub they are called owner/name" in invoke("push", model, "toy", code=2).stderr
        assert not hub.asked

    @pytest.mark.parametrize(("value", "lines"), [(0.5, "reproduced: eval/a/heldout/b is 0.5000"), (0.4, None)])
    def test_a_score_must_be_reached_by_what_came_back(self, hub, model, monkeypatch, value, lines):
        record = Record("a", "heldout", "model", "b", 0.5)
        scored = []

        def score(folder: Path) -> list[Record]:
            scored.append(load_bundle(folder))
            return [Record("a", "heldout", "model", "b", value)]

        monkeypatch.setattr(pushing, "_score_to_reach", lambda *words, **options: (Reproduction(record, score), []))
        if lines is None:
            with pytest.raises(RunError, match=r"it differs in eval/a/heldout/b \(0\.4000, not 0\.5000\)"):
                push_model(model, "me/toy")
        else:
            assert any(lines in line for line in push_model(model, "me/toy"))
        assert len(scored) == 1

    def test_cells_of_a_run_that_are_gone_are_told(self, hub, model, monkeypatch):
        def score(folder: Path) -> list[Record]:
            msg = "cells.h5ad: no such file"
            raise DataError(msg)

        again = Reproduction(Record("a", "heldout", "model", "b", 0.5), score)
        monkeypatch.setattr(pushing, "_score_to_reach", lambda *words, **options: (again, []))
        lines = push_model(model, "me/toy")
        assert "not reproduced on the run's own cells: cells.h5ad: no such file" in lines
        assert not any(line.startswith("reproduced") for line in lines)


class TestTolerance:
    def test_is_a_tenth_of_half_the_interval_and_no_less_than_a_thousandth(self):
        assert tolerance(Record("a", "b", "model", "c", 0.5)) == 0.001
        assert tolerance(Record("a", "b", "model", "c", 0.5, interval=[0.4, 0.6])) == pytest.approx(0.01)

    def test_another_score_or_none_is_a_difference(self, tmp_path):
        wanted = Record("a", "b", "model", "c", 0.5, interval=[0.4, 0.6])
        for value, is_same in ((0.505, True), (0.52, False), (None, False)):
            found = Reproduction(wanted, lambda folder, v=value: [Record("a", "b", "model", "c", v)])
            assert (found.differences(tmp_path) == []) is is_same


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Train a run that is evaluated."""
    folder = tmp_path_factory.mktemp("run")
    make_adata(120, 40).write_h5ad(folder / "cells.h5ad")
    config = {
        "data": {"paths": [str(folder / "cells.h5ad")], "gene_vocab": "from_data", "label_column": "cell_type"},
        "tokenizer": {"strategy": "rank_value", "max_genes": 24},
        "model": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 24},
        "training": {"batch_size": 16, "max_epochs": 2, "devices": 1},
        "eval": {"benchmarks": ["cell_type_annotation"]},
        "output": {"run_dir": str(folder / "run"), "tensorboard": False},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["train", "--config", str(folder / "run.yaml")])
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.mark.slow
class TestScoresOfARun:
    """A run is trained, pushed, and its first score reached again by what came back."""

    def test_is_reached_on_its_own_held_out_cells(self, hub, run):
        result = invoke("push", run, "me/toy")
        records = [json.loads(line) for line in (run / "exported_results.jsonl").read_text().splitlines()]
        first = next(record for record in records if record["representation"] == "model")
        assert (
            f"reproduced: eval/cell_type_annotation/heldout/{first['metric']} is {first['value']:.4f}" in result.stderr
        )
        card = hub.repositories["me/toy"].files()["README.md"].decode()
        assert "## Evaluation\n\nHeld-out cells, with 95 % bootstrap intervals." in card
        assert not is_edited((run / "model/README.md").read_text())

    def test_a_result_that_is_not_that_of_the_model_fails(self, hub, run, tmp_path):
        shutil.copytree(run, tmp_path / "run")
        lines = (run / "exported_results.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        records[0]["value"] = 2.0
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "run/exported_results.jsonl").write_text(text)
        assert "not 2.0000)" in invoke("push", tmp_path / "run", "me/toy", code=1).stderr

    def test_is_reached_on_given_cells(self, hub, run, tmp_path):
        make_adata(80, 40, seed=5).write_h5ad(tmp_path / "others.h5ad")
        shutil.copytree(run / "model", tmp_path / "model")
        result = invoke(
            "push", tmp_path / "model", "me/toy", "--data", tmp_path / "others.h5ad", "--label", "cell_type"
        )
        assert "reproduced: eval/cell_type_annotation/" in result.stderr
        result = invoke("push", tmp_path / "model", "me/new", "--data", tmp_path / "no.h5ad", "--label", "x", code=2)
        assert "me/new" not in hub.repositories

    def test_cells_that_are_gone_are_told(self, hub, run, tmp_path):
        shutil.copytree(run, tmp_path / "run")
        settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
        settings["data"]["paths"] = [str(tmp_path / "gone.h5ad")]
        (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(settings))
        result = invoke("push", tmp_path / "run", "me/toy")
        assert "not reproduced on the run's own cells: the score cannot be computed again" in result.stderr


class TestExport:
    def test_as_a_folder_has_the_same_weights_and_can_be_moved(self, model, tmp_path):
        result = invoke("export", model, tmp_path / "out", "--licence", "mit")
        assert "read again and compared: the same weights and embeddings" in result.stderr
        shutil.move(tmp_path / "out", tmp_path / "moved")
        shutil.rmtree(model)
        assert load_bundle(tmp_path / "moved").model_id == "000000000000@7"
        assert stated_licence((tmp_path / "moved/README.md").read_text()) == "mit"

    def test_a_folder_that_is_there_is_not_replaced_unasked(self, model, tmp_path):
        invoke("export", model, tmp_path / "out")
        assert "exists; choose another name" in invoke("export", model, tmp_path / "out", code=2).stderr
        invoke("export", model, tmp_path / "out", "--force")
        invoke("export", model, tmp_path / "out", "--format", "vcp", "--force")
        invoke("export", model, tmp_path / "out", "--format", "vcp", "--force")

    def test_an_unknown_format_is_refused(self, model, tmp_path):
        result = invoke("export", model, tmp_path / "out", "--format", "vpc", code=2)
        assert "unknown format 'vpc'. Did you mean 'vcp'? There are: folder, vcp." in result.stderr

    def test_what_is_no_model_is_refused(self, tmp_path):
        assert "is no model folder of ours" in invoke("export", tmp_path, tmp_path / "out", code=2).stderr
        assert not (tmp_path / "out").exists()

    def test_what_fails_leaves_what_was_there(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/config.json").write_text("old")

        def fail() -> None:
            with new_folder(tmp_path / "out", force=True) as new:
                new.mkdir()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert contents(tmp_path) == {"out/config.json": b"old"}


class TestVcp:
    @pytest.fixture
    def package(self, model, tmp_path) -> Path:
        invoke("export", model, tmp_path / "package", "--format", "vcp", "--licence", "apache-2.0")
        return tmp_path / "package"

    @pytest.fixture
    def cells(self, tmp_path) -> Path:
        make_adata(12, 20).write_h5ad(tmp_path / "cells.h5ad")
        return tmp_path / "cells.h5ad"

    def test_has_the_files_that_its_command_line_looks_for(self, package, model):
        assert (package / "model_card_docs/model_card_details.md").read_text().startswith("# transformer_encoder")
        assert len(list(package.glob("*mlflow_pkg"))) == 1
        data = package / "mlflow_pkg/model_data"
        assert not [path for path in data.rglob("*") if path.name.startswith(".")]  # it leaves hidden files out
        weights, own = load_file(data / "model.safetensors"), load_file(model / "model.safetensors")
        assert all((weights[name] == own[name]).all() for name in own)
        artifact = package / "mlflow_pkg/mlflow_model_artifact"
        assert contents(artifact / "data") == contents(data)
        assert not [path for path in package.rglob("*") if path.suffix in (".pkl", ".pt")]

    def test_metadata_have_the_fields_that_are_submitted_and_invent_nothing(self, package, model, tmp_path):
        text = (package / "model_card_docs/model_card_metadata.yaml").read_text()
        fields = yaml.safe_load(text)
        assert fields["licenses"] == [{"name": "apache-2.0", "type": "apache-2.0"}]
        assert "trained on 40 cells" in fields["model_description"]
        assert (fields["model_version"], fields["repository_link"], fields["authors"]) == ("", "", [])
        assert text.startswith(
            "# Before 'vcp model submit' fill in what is empty: model_version, repository_link, authors."
        )
        result = invoke("export", model, tmp_path / "other", "--format", "vcp")
        assert "fill in before you submit it: model_version, licenses, repository_link, authors" in result.stderr

    def test_its_code_embeds_cells_as_the_model_does(self, package, cells, model, tmp_path):
        path = package / "mlflow_pkg/mlflow_model_artifact/code/scmodelforge_vcp.py"
        assert path.read_bytes() == Path(vcp_loader.__file__).read_bytes()
        spec = importlib.util.spec_from_file_location("scmodelforge_vcp", path)
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        loaded = code._load_pyfunc(str(package / "mlflow_pkg/mlflow_model_artifact/data"))
        files = pd.DataFrame({"input_uri": [str(cells)], "output_uri": [str(tmp_path / "embedded.h5ad")]})
        rows = loaded.predict(files)
        embedder = CellEmbedder(model)
        expected = embedder.get_embeddings(embedder.process_data(ad.read_h5ad(cells)))
        np.testing.assert_array_equal(rows.to_numpy(), expected)
        assert list(rows.index) == [f"cell{i}" for i in range(12)]
        np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "embedded.h5ad").obsm["X_scmodelforge"], expected)
        assert loaded.predict(files[["input_uri"]]).shape == rows.shape

    @pytest.mark.slow
    def test_its_code_is_a_script(self, package, cells, tmp_path):
        script = package / "mlflow_pkg/mlflow_model_artifact/code/scmodelforge_vcp.py"
        out = tmp_path / "embedded.h5ad"
        subprocess.run([sys.executable, script, cells, out], check=True, env={**os.environ})
        assert ad.read_h5ad(out).obsm["X_scmodelforge"].shape == (12, 16)

    def test_mlflow_finds_what_it_needs(self, package):
        artifact = package / "mlflow_pkg/mlflow_model_artifact"
        flavour = yaml.safe_load((artifact / "MLmodel").read_text())["flavors"]["python_function"]
        assert (artifact / flavour["code"] / f"{flavour['loader_module']}.py").is_file()
        assert (artifact / flavour["data"] / "config.json").is_file()
        assert all((artifact / name).is_file() for name in flavour["env"].values())

    @pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
    def test_mlflow_loads_it(self, package, cells):
        import mlflow

        loaded = mlflow.pyfunc.load_model(str(package / "mlflow_pkg/mlflow_model_artifact"))
        assert loaded.predict(pd.DataFrame({"input_uri": [str(cells)]})).shape == (12, 16)
