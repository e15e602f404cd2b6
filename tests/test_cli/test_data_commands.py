"""``scmodelforge data``: split."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_data.remote_servers import faulty_server
from tests.test_data.zarr_stores import write_store


def invoke(*words: object):
    return CliRunner().invoke(app, ["data", *(str(word) for word in words)])


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    make_adata(60, 10).write_h5ad(path)
    return path


class TestSplit:
    def test_writes_a_split_by_donors(self, cells, tmp_path):
        out = tmp_path / "splits.json"
        result = invoke("split", cells, "-o", out, "--by", "donor_id", "--fraction", 0.2)
        assert result.exit_code == 0, result.output
        assert "held out 1 of 5 donors" in result.stderr
        assert f"next: set data.split.file to {out}" in result.stderr
        content = json.loads(out.read_text())
        assert (content["by"], content["num_train"], content["num_validation"]) == ("donor_id", 48, 12)
        assert [each["name"] for each in content["files"]] == ["cells.h5ad"]

    @pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
    def test_of_stores_and_of_what_lies_elsewhere(self, cells, tmp_path, monkeypatch, name):
        store = write_store(tmp_path, make_adata(60, 10))
        files = {f"lung/{file.relative_to(tmp_path)}": file.read_bytes() for file in store.rglob("*") if file.is_file()}
        found = []
        with faulty_server(**files, **{"lung/cells.h5ad": cells.read_bytes()}) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
            places = [tmp_path / name, f"{server.url}/lung/{name}"]
            for place in [*places, f"s3://lung/{name}"] if name == "cells.h5ad" else places:
                result = invoke("split", place, "-o", tmp_path / "splits.json", "--by", "donor_id", "--force")
                assert result.exit_code == 0, result.output
                content = json.loads((tmp_path / "splits.json").read_text())
                assert content["files"][0]["name"] == name
                found.append((content["train"], content["validation"]))
        assert found[0][1]
        assert all(each == found[0] for each in found)

    def test_of_named_groups_and_filtered_cells(self, cells, tmp_path):
        out = tmp_path / "splits.json"
        words = ["split", cells, "-o", out, "--by", "donor_id", "--groups", "d1", "--groups", "d3"]
        result = invoke(*words, "--filter", "batch == 'b0'")
        assert result.exit_code == 0, result.output
        content = json.loads(out.read_text())
        assert (content["groups"], content["num_train"], content["num_validation"]) == (["d1", "d3"], 18, 12)
        assert content["filter"] == "batch == 'b0'"

    def test_never_overwrites_unasked(self, cells, tmp_path):
        out = tmp_path / "splits.json"
        out.write_text("precious")
        refused = invoke("split", cells, "-o", out)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert out.read_text() == "precious"
        assert invoke("split", cells, "-o", out, "--force").exit_code == 0
        assert "hash" in json.loads(out.read_text())

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--groups", "d1", "--fraction", "0.2"], "--groups and --fraction both say what is held out; give one"),
            (["--fraction", "1"], "--fraction 1 leaves no cell to train on; hold out less"),
            (["--by", "donor"], "has no column 'donor'"),
            (["--filter", "n > "], "data.filter is 'n > '"),
        ],
    )
    def test_mistakes_are_one_line(self, cells, tmp_path, words, message):
        result = invoke("split", cells, "-o", tmp_path / "splits.json", *words)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "splits.json").exists()


def test_ctrl_c_is_told_in_a_line(tiny_h5ad, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scmodelforge.workflows.split.split_files", stop)
    result = CliRunner().invoke(app, ["data", "split", str(tiny_h5ad), "-o", str(tmp_path / "splits.json")])
    assert result.exit_code == 130
    assert result.stderr == "stopped by Ctrl-C\n"
