"""``scmodelforge datasets``: list, fetch, split."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_datasets.servers import file_server


def invoke(*words: object):
    return CliRunner().invoke(app, ["datasets", *(str(word) for word in words)])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SCMODELFORGE_DATASETS", str(tmp_path / "kept"))
    monkeypatch.delenv("SCMODELFORGE_DATASETS_MIRROR", raising=False)
    return tmp_path / "kept"


@pytest.fixture
def atlas(tmp_path):
    """Return a file with the columns of Tabula Sapiens."""
    make_adata().write_h5ad(tmp_path / "download.h5ad")
    return tmp_path / "download.h5ad"


class TestList:
    def test_says_what_is_here_and_which_checksums_are_known(self, folder):
        result = invoke("list")
        assert result.exit_code == 0
        rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
        assert "shipped" in rows["pbmc68k_reduced"]
        assert "published" in rows["pbmc68k_reduced"]
        assert "when fetched" in rows["tabula_sapiens"]
        assert rows["norman:"].endswith("CC BY 4.0 (scPerturb); raw data: GEO GSE133344")
        assert str(folder) in result.stderr
        assert "none is known here; it is pinned on the first fetch" in result.stderr

    def test_shows_what_was_fetched_and_where(self, folder, atlas):
        assert invoke("fetch", "tabula_sapiens", "--from", atlas).exit_code == 0
        (entry,) = (row for row in json.loads(invoke("list", "--json").stdout) if row["name"] == "tabula_sapiens")
        assert (entry["here"], entry["path"]) == ("fetched", str(folder / "tabula_sapiens.h5ad"))
        assert entry["checksum"].startswith("pinned 20")
        assert len(entry["sha256"]) == 64
        assert entry["split"]["by"] == "donor_id"


class TestFetch:
    def test_prints_licence_and_citation(self, atlas):
        result = invoke("fetch", "tabula_sapiens", "--from", atlas)
        assert result.exit_code == 0, result.output
        assert "licence: CC BY 4.0" in result.stderr
        assert "cite: The Tabula Sapiens Consortium 2022" in result.stderr
        assert "next: dataset://tabula_sapiens in data.paths" in result.stderr
        assert result.stdout == ""

    def test_fetches_from_a_mirror_and_says_how_far_it_is(self, folder, atlas, monkeypatch):
        with file_server(atlas.read_bytes()) as server:
            monkeypatch.setenv("SCMODELFORGE_DATASETS_MIRROR", f"{server.url}/data")
            result = invoke("fetch", "tabula_sapiens")
        assert result.exit_code == 0, result.output
        assert [each[0] for each in server.seen] == ["/data/tabula_sapiens.h5ad"]
        assert (folder / "tabula_sapiens.h5ad").read_bytes() == atlas.read_bytes()
        size = f"{atlas.stat().st_size / 1e6:,.1f} MB"
        assert f"of {size}" in result.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["fetch", "tabula_sapien"], "Did you mean 'tabula_sapiens'?"),
            (["fetch", "norman"], "--from URL-OR-FILE"),
            (["fetch", "norman", "--from", "nowhere.h5ad"], "no file 'nowhere.h5ad'"),
            (["fetch", "norman", "--sha256", "1"], "64 digits"),
            (["split", "norman", "-o", "split.json"], "is not on this machine"),
        ],
    )
    def test_what_is_wrong_is_one_line_and_exit_status_2(self, words, message, folder, tmp_path, monkeypatch):
        folder.mkdir()
        monkeypatch.chdir(tmp_path)
        result = invoke(*words)
        assert result.exit_code == 2
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert message in errors[0]
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "split.json").exists()
