"""Training with a filter, a split from a file and sampling by groups, from settings to a resumed run."""

from __future__ import annotations

import json
import re

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_life_cycle import assert_same_training, interrupt, invoke, settings, train

WAY = {
    "filter": "n > 9 and cell_type != 'type2'",
    "sampling": {
        "mode": "balanced",
        "by": "cell_type",
        "minibatch": "several",
        "minibatch_groups": 2,
    },
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata = make_adata(80, 30)
    adata.obs["n"] = np.arange(80)
    adata.write_h5ad(path)
    return path


def changes(split: dict) -> dict:
    ways = {f"data__{name}": value for name, value in WAY.items()}
    return {**ways, "data__split": split, "eval__benchmarks": []}


def members(run) -> dict[str, set[int]]:
    stored = json.loads((run / "splits.json").read_text())
    return {side: {cell for start, stop in stored[side] for cell in range(start, stop)} for side in
            ("train", "validation")}  # fmt: skip


class TestRun:
    def test_resumes_exactly_and_has_no_filtered_cell(self, cells, tmp_path):
        whole = train(tmp_path, cells, "whole", **changes({"by": "donor_id", "validation_fraction": 0.3}))
        sides = members(whole)
        obs = ad.read_h5ad(cells).obs
        kept = set(np.flatnonzero((obs["n"] > 9) & (obs["cell_type"] != "type2")).tolist())
        assert sides["train"] | sides["validation"] == kept
        assert sides["validation"]

        config = tmp_path / "broken.yaml"
        split = {"by": "donor_id", "validation_fraction": 0.3}
        config.write_text(yaml.safe_dump(settings(cells, tmp_path / "broken", **changes(split))))
        interrupt("train", "--config", config, after=4)
        invoke("train", "--resume", tmp_path / "broken")
        assert_same_training(tmp_path / "broken", whole)

    def test_takes_the_split_of_a_file_from_any_folder(self, cells, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        invoke("data", "split", cells, "--by", "donor_id", "--groups", "d2", "-o", "splits.json")
        output = train(tmp_path, cells, training__max_epochs=1, **changes({"file": "splits.json"}))
        donors = ad.read_h5ad(cells).obs["donor_id"].to_numpy()
        sides = members(output)
        assert {donors[cell] for cell in sides["validation"]} == {"d2"}
        assert "d2" not in {donors[cell] for cell in sides["train"]}
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        (tmp_path / "splits.json").unlink()  # the run has its own
        invoke("train", "--resume", output)

    def test_says_how_many_cells_are_kept_and_what_the_shares_are(self, cells, tmp_path):
        config = tmp_path / "run.yaml"
        split = {"by": "donor_id", "validation_fraction": 0.3}
        config.write_text(yaml.safe_dump(settings(cells, tmp_path / "run", training__max_epochs=1, **changes(split))))
        output = invoke("train", "--config", config)
        obs = ad.read_h5ad(cells).obs
        kept = np.count_nonzero((obs["n"] > 9) & (obs["cell_type"] != "type2"))
        assert f"data.filter keeps {kept} of 80 cells (n > 9 and cell_type != 'type2')" in output
        assert "sampling balanced by cell_type in batches of 2 or more of batch: type" in output
        assert re.search(r"type\d (48|49|50|51)\.\d% \(of the cells \d+\.\d%\)", output)

    def test_an_unknown_group_stops_the_run_before_its_folder_is_made(self, cells, tmp_path):
        config = tmp_path / "run.yaml"
        given = settings(cells, tmp_path / "run", data__sampling={"mode": "balanced", "by": "cel_type"})
        config.write_text(yaml.safe_dump(given))
        result = CliRunner().invoke(app, ["train", "--config", str(config)])
        assert result.exit_code == 2
        assert "data.sampling.by names the obs column 'cel_type', which the data do not have." in result.output
        assert not (tmp_path / "run").exists()


class TestMixture:
    def test_trains_from_any_folder_and_resumes(self, cells, tmp_path, monkeypatch):
        make_adata(40, 20, seed=4).write_h5ad(tmp_path / "more.h5ad")
        given = settings(cells, tmp_path / "run", training__max_epochs=1, eval__benchmarks=[])
        del given["data"]["paths"]
        entries = [{"source": "local", "paths": [str(cells)]}, {"paths": ["more.h5ad"], "layer": "X"}]
        sampling = {"mode": "weighted", "by": "source", "weights": {"0": 1, "1": 1}}
        given["data"] |= {"source": "mixture", "sources": entries, "sampling": sampling}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
        monkeypatch.chdir(tmp_path)
        output = invoke("train", "--config", tmp_path / "run.yaml")
        assert "sampling weighted by source with weights 0 1.0, 1 1.0: " in output
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        invoke("train", "--resume", tmp_path / "run")
        facts = json.loads((tmp_path / "run" / "run.json").read_text())
        assert [entry["name"] for entry in facts["data"]] == ["cells.h5ad", "more.h5ad"]
