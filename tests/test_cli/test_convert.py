"""``scmodelforge convert``."""

from __future__ import annotations

import anndata as ad
import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app


def invoke(*words: object):
    return CliRunner().invoke(app, ["convert", *(str(word) for word in words)])


class TestConvert:
    def test_writes_a_collection_and_says_what_is_in_it(self, tmp_path, tiny_h5ad):
        out = tmp_path / "o.zarr"
        result = invoke(tiny_h5ad, out, "--dtype", "uint16", "--threads", 1)
        assert result.exit_code == 0, result.output
        assert "60 cells, 40 genes, uint16" in result.stderr
        assert "uns, obsm, varm, obsp, varp and other matrices were not" in result.stderr
        assert ad.io.read_zarr(out / "dataset_0").shape == (60, 40)
        result = invoke("--verify", out)
        assert result.exit_code == 0, result.output
        assert "are as they were written" in result.stderr

    def test_a_failed_check_has_status_1(self, tmp_path, tiny_h5ad):
        out = tmp_path / "o.zarr"
        invoke(tiny_h5ad, out)
        (out / "zarr.json").write_text("{}")
        result = invoke("--verify", out)
        assert result.exit_code == 1
        assert "zarr.json has 2 of" in result.stderr

    def test_the_help_tells_what_the_status_says(self):
        assert "1 when interrupted or when --verify finds damage" in " ".join(invoke("--help").stdout.split())

    def test_what_cannot_be_checked_has_status_2(self, tmp_path):
        (tmp_path / "lungs.zarr").mkdir()
        (tmp_path / "a.txt").touch()
        for name, message in (
            ("lung.zarr", "lung.zarr is not there. Did you mean 'lungs.zarr'?"),
            ("unrelated_name.zarr", "unrelated_name.zarr is not there. Correct the path."),
            ("no/a.zarr", f"no/a.zarr is not there, nor is the folder {tmp_path / 'no'}; correct the path."),
            ("lungs.zarr", "has finished: it has no MANIFEST.json; only such a collection can be verified."),
            ("a.txt", "a.txt is a file, and --verify checks the folder that 'scmodelforge convert' has written."),
        ):
            result = invoke("--verify", tmp_path / name)
            assert result.exit_code == 2
            assert message in result.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["o.zarr"], "convert needs what to read and what to write: scmodelforge convert cells.h5ad cells.zarr"),
            (["--verify", "a.zarr", "b.zarr"], "--verify checks one collection, and 2 paths were given."),
            (["a.h5ad", "b.h5ad"], "b.h5ad does not end in .zarr"),
            (["missing.h5ad", "o.zarr"], "no file 'missing.h5ad'"),
            (["a.h5ad", "s3://bucket/o.zarr"], "OUT is an address (s3://...), and it must be on this machine"),
        ],
    )
    def test_wrong_words_have_status_2(self, tmp_path, monkeypatch, words, message):
        monkeypatch.chdir(tmp_path)
        result = invoke(*words)
        assert result.exit_code == 2
        assert message in result.stderr
