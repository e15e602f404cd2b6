"""A push counts if what came back reaches the score that the model here reaches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import DataError
from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.workflows import push_model as pushing
from scmodelforge.workflows.card_text import is_edited
from scmodelforge.workflows.push_model import push_model
from scmodelforge.workflows.reproduce import Reproduction, tolerance
from tests.conftest import make_adata
from tests.hub_stub import PUSHES
from tests.test_hub.commands import invoke, model

__all__ = ["model"]  # a fixture

pytestmark = PUSHES


class TestTolerance:
    def test_is_a_tenth_of_half_the_interval_and_no_less_than_a_thousandth(self):
        assert tolerance(Record("a", "b", "model", "c", 0.5)) == 0.001
        assert tolerance(Record("a", "b", "model", "c", 0.5, interval=[0.4, 0.6])) == pytest.approx(0.01)

    def test_another_score_or_none_is_a_difference(self, tmp_path):
        wanted = Record("a", "b", "model", "c", 0.5, interval=[0.4, 0.6])
        for value, is_same in ((0.505, True), (0.52, False), (None, False)):
            found = Reproduction(wanted, lambda folder, v=value: [Record("a", "b", "model", "c", v)])
            assert (found.differences(tmp_path) == []) is is_same


class Scores:
    """What is scored: the value of the model here, then that of what came back."""

    def __init__(self, *values: float | Exception) -> None:
        self.values, self.folders = list(values), []

    def __call__(self, folder: Path) -> list[Record]:
        self.folders.append(folder)
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return [Record("a", "heldout", "model", "b", value)]


class TestOrder:
    """The model is scored here first: what cannot be scored, or is not as it was, makes nothing on the hub."""

    @pytest.fixture
    def scored(self, model, monkeypatch):
        def register(*values: float | Exception) -> Scores:
            scores = Scores(*values)
            again = Reproduction(Record("a", "heldout", "model", "b", 0.5), scores)
            monkeypatch.setattr(pushing, "run_of", lambda folder: folder)
            monkeypatch.setattr(pushing, "on_own_cells", lambda run: again)
            return scores

        return register

    def test_a_score_that_both_reach_counts(self, hub, model, scored):
        scores = scored(0.5, 0.5)
        assert any("reproduced: eval/a/heldout/b is 0.5000" in line for line in push_model(model, "me/toy"))
        assert scores.folders[0] == model
        assert scores.folders[1].name == "back"

    def test_one_that_the_model_here_does_not_reach_is_refused_before_the_upload(self, hub, model, scored):
        scored(0.4)
        with pytest.raises(DataError, match=r"nothing was pushed: .* eval/a/heldout/b \(0\.4000, not 0\.5000\)"):
            push_model(model, "me/toy")
        assert not hub.repositories

    def test_one_that_cannot_be_computed_is_refused_before_the_upload(self, hub, model, scored):
        scored(DataError("cells.h5ad: no such file."))
        with pytest.raises(DataError, match=r"nothing was pushed: cells.h5ad: no such file\. .*--data and --label"):
            push_model(model, "me/toy")
        assert not hub.repositories

    def test_one_that_only_the_copy_misses_fails_and_says_what_stands_on_the_hub(self, hub, model, scored):
        scored(0.5, 0.4)
        with pytest.raises(DataError, match=r"it differs in eval/a/heldout/b \(0\.4000, not 0\.5000\)") as caught:
            push_model(model, "me/toy")
        assert "On the hub it is branch 'main' now; before it there was nothing" in str(caught.value)

    def test_one_that_only_the_copy_cannot_reach_for_want_of_cells_fails_too(self, hub, model, scored):
        scored(0.5, DataError("cells.h5ad: no such file."))
        with pytest.raises(DataError, match=r"do not use it: cells\.h5ad: no such file\. On the hub it is"):
            push_model(model, "me/toy")

    def test_what_the_hub_refuses_is_told_before_anything_is_scored(self, hub, model, scored, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        scores = scored(0.5, 0.5)
        with pytest.raises(DataError, match="does not know your token"):
            push_model(model, "me/toy")
        assert not scores.folders


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
        assert "## Evaluation\n\nHeld-out cells, with 95 % bootstrap intervals" in card
        assert not is_edited((run / "model/README.md").read_text())

    def test_a_result_that_is_not_that_of_the_model_fails(self, hub, run, tmp_path):
        shutil.copytree(run, tmp_path / "run")
        lines = (run / "exported_results.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        records[0]["value"] = 2.0
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "run/exported_results.jsonl").write_text(text)
        result = invoke("push", tmp_path / "run", "me/toy", code=2)
        assert "the model here does not reach the score of its run" in result.stderr
        assert "not 2.0000)" in result.stderr
        assert not hub.repositories

    def test_is_reached_on_given_cells(self, hub, run, tmp_path):
        make_adata(80, 40, seed=5).write_h5ad(tmp_path / "others.h5ad")
        shutil.copytree(run / "model", tmp_path / "model")
        result = invoke(
            "push", tmp_path / "model", "me/toy", "--data", tmp_path / "others.h5ad", "--label", "cell_type"
        )
        assert "reproduced: eval/cell_type_annotation/" in result.stderr
        result = invoke("push", tmp_path / "model", "me/new", "--data", tmp_path / "no.h5ad", "--label", "x", code=2)
        assert "me/new" not in hub.repositories

    def test_cells_that_are_gone_are_refused_and_the_way_out_works(self, hub, run, tmp_path, monkeypatch):
        shutil.copytree(run, tmp_path / "run")
        settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
        settings["data"]["paths"] = [str(tmp_path / "gone.h5ad")]
        (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(settings))
        result = invoke("push", tmp_path / "run", "me/toy", code=2)
        assert "nothing was pushed: the score cannot be computed again" in result.stderr
        assert f"scmodelforge hub export {tmp_path / 'run'} exported, and push exported" in result.stderr
        assert not hub.repositories
        monkeypatch.chdir(tmp_path)
        invoke("export", tmp_path / "run", "exported")
        invoke("push", "exported", "me/toy")
        assert "model.safetensors" in hub.repositories["me/toy"].files()
