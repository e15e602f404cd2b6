"""``scmodelforge predict`` and ``embed`` on files: what stands in the copy, and that nothing is left behind else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from typer.testing import CliRunner

import scmodelforge as smf
from scmodelforge._errors import DataError
from scmodelforge.cli.main import app
from scmodelforge.hub import load_model, save_bundle
from scmodelforge.workflows import embed, ready_cells
from scmodelforge.workflows.copies import on_disk, put_rows, write_copy
from tests.hub_stub import hub_stub, use_hub
from tests.test_life_cycle import invoke
from tests.test_tl import cells
from tests.test_workflows.ready_models import TYPES, labelling_model, ready_model


def fails(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert line == result.stderr.splitlines()[-1]
    return line


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata = cells()
    counts = adata.X.toarray()
    counts[3] = 0
    adata.X = type(adata.X)(counts)
    adata.obs["scmodelforge_label"] = "old"
    adata.layers["same"] = adata.X.copy()
    adata.uns["mine"] = {"a": 1}
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_bundle(folder, labelling_model(), card="")
    return folder


class TestPredict:
    def test_writes_what_annotate_does_and_leaves_the_rest(self, data, model, tmp_path):
        out = tmp_path / "out.h5ad"
        said = invoke("predict", data, out, "--model", model, "--min-confidence", 0.5, "--unknown", "?")
        before, after = ad.read_h5ad(data), ad.read_h5ad(out)
        expected = before.copy()
        smf.tl.annotate(expected, str(model), min_confidence=0.5, unknown="?")
        pd.testing.assert_frame_equal(after.obs, expected.obs)
        assert list(after.obs["scmodelforge_label"].cat.categories) == [*TYPES, "?"]
        assert after.obs["scmodelforge_label"].iloc[3] == "?"
        assert dict(after.uns["scmodelforge_label"]) == dict(expected.uns["scmodelforge_label"])
        assert after.uns["scmodelforge_label"]["model"] == str(model)
        assert after.uns["mine"] == before.uns["mine"]
        assert (after.X != before.X).nnz == 0
        assert list(after.layers) == ["same"]
        assert "1 of 60 cells have none of them" in said
        assert "3 cell types" in said
        assert sorted(tmp_path.iterdir()) == [out]

    def test_the_batch_size_and_where_the_counts_are_change_nothing(self, data, model, tmp_path):
        invoke("predict", data, tmp_path / "a.h5ad", "--model", model)
        invoke("predict", data, tmp_path / "b.h5ad", "--model", model, "--batch-size", 7, "--layer", "same")
        first, second = (ad.read_h5ad(tmp_path / name).obs for name in ("a.h5ad", "b.h5ad"))
        pd.testing.assert_frame_equal(first, second)

    def test_a_file_that_exists_is_replaced_only_if_asked(self, data, model, tmp_path):
        out = tmp_path / "out.h5ad"
        out.write_text("precious")
        assert "out.h5ad exists; choose another name, or replace it with --force" in fails(
            "predict", data, out, "--model", model
        )
        assert out.read_text() == "precious"
        invoke("predict", data, out, "--model", model, "--force")
        assert ad.read_h5ad(out).n_obs == 60
        assert "is the input itself" in fails("predict", out, out, "--model", model, "--force")

    def test_wrong_input_is_one_line(self, data, model, tmp_path):
        out = tmp_path / "out.h5ad"
        save_bundle(tmp_path / "other", ready_model(), card="")
        for words, message in (
            ((data, out, "--model", tmp_path / "other"), "has learned no cell types"),
            ((data, out, "--model", tmp_path / "absent"), "no such folder"),
            ((data, out, "--model", model, "--min-confidence", 7), "min_confidence is 7"),
            ((data, out, "--model", model, "--unknown", "type0"), "'type0' is a cell type of the model"),
            ((data, out, "--model", model, "--layer", "none"), "no layer 'none' (--layer)"),
            ((data, out, "--model", model, "--gene-id-column", "id"), "no column 'id' (--gene-id-column)"),
            ((tmp_path / "other", out, "--model", model), "is a folder, and a copy of an .h5ad file is written"),
            ((tmp_path / "absent.h5ad", out, "--model", model), "no file"),
        ):
            assert message in fails("predict", *words)
        assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("command", ["embed", "predict"])
class TestBoth:
    def test_a_file_is_closed_after_an_error(self, data, model, tmp_path, monkeypatch, command):
        own, out = tmp_path / "cells.h5ad", tmp_path / "out.h5ad"
        own.write_bytes(data.read_bytes())
        with h5py.File(own, "r+") as file:
            file["X/data"][-1] = np.nan
        assert "has NaN for gene" in fails(command, own, out, "--model", model, "--layer", "X")
        with h5py.File(own, "r+") as file:  # HDF5 refuses this while it is open for reading
            file["X/data"][-1] = 1
        monkeypatch.setattr(ready_cells, "embed_batches", broken)
        assert "the model broke" in fails(command, own, out, "--model", model, "--layer", "X")
        h5py.File(own, "r+").close()
        monkeypatch.undo()
        invoke(command, own, out, "--model", model)

    def test_the_commit_that_was_fetched_is_named_as_by_tl(self, data, model, tmp_path, monkeypatch, command):
        with hub_stub() as hub:
            use_hub(monkeypatch, hub.url, tmp_path / "home")
            commit = hub.add("me/labels", model).names["main"]
            invoke(command, data, tmp_path / "out.h5ad", "--model", "HF://me/labels")
            function = {"embed": smf.tl.embed, "predict": smf.tl.annotate}[command]
            expected = function(ad.read_h5ad(data), "HF://me/labels", copy=True)
            loaded = function(ad.read_h5ad(data), load_model("hf://me/labels"), copy=True)
        key = {"embed": "X_scmodelforge", "predict": "scmodelforge_label"}[command]
        facts = dict(ad.read_h5ad(tmp_path / "out.h5ad").uns[key])
        assert facts["model"] == f"hf://me/labels@{commit}"
        assert facts["model_id"] == "000000000000@7"
        assert facts == expected.uns[key] == loaded.uns[key]


def broken(*given, **options):
    raise DataError("the model broke; give another one.")
    yield


class TestEmbed:
    def test_writes_what_tl_does(self, data, model, tmp_path):
        out = tmp_path / "out.h5ad"
        invoke("embed", data, out, "--model", model)
        after = ad.read_h5ad(out)
        expected = smf.tl.embed(ad.read_h5ad(data), str(model), copy=True)
        np.testing.assert_array_equal(after.obsm["X_scmodelforge"], expected.obsm["X_scmodelforge"])
        assert after.obsm["X_scmodelforge"].dtype == np.float32
        assert dict(after.uns["X_scmodelforge"]) == dict(expected.uns["X_scmodelforge"])
        assert after.uns["mine"] == {"a": 1}
        assert sorted(tmp_path.iterdir()) == [out]

    def test_embeds_again_what_was_embedded_and_keeps_the_mark_of_made_cells(self, data, model, tmp_path):
        marked, out = tmp_path / "marked.h5ad", tmp_path / "out.h5ad"
        marked.write_bytes(data.read_bytes())
        with h5py.File(marked, "r+") as file:
            write_elem(file["uns"], "scmodelforge", {"synthetic": True, "model_id": "of another"})
            write_elem(file["obsm"], "X_scmodelforge", np.zeros((60, 3)))
        invoke("embed", marked, out, "--model", model, "--layer", "X")
        after = ad.read_h5ad(out)
        assert after.obsm["X_scmodelforge"].shape == (60, 8)
        assert after.uns["scmodelforge"]["synthetic"]
        assert after.uns["X_scmodelforge"]["model_id"] == "000000000000@7"

    def test_unfinished_rows_that_are_cut_off_are_made_again(self, data, model, tmp_path, monkeypatch):
        out, write = tmp_path / "out.h5ad", embed._Partial.write

        def stop(part, rows, vectors):
            write(part, rows, vectors)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(embed._Partial, "write", stop)
            words = ["embed", data, out, "--model", model, "--batch-size", 20]
            assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 1
        rows = tmp_path / "out.h5ad.partial" / "rows.f32"
        rows.write_bytes(rows.read_bytes()[:100])
        invoke(*words)
        expected = smf.tl.embed(ad.read_h5ad(data), str(model), copy=True)
        np.testing.assert_array_equal(ad.read_h5ad(out).obsm["X_scmodelforge"], expected.obsm["X_scmodelforge"])


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class TestFullDisk:
    @pytest.mark.parametrize("command", ["embed", "predict"])
    def test_is_one_line_and_leaves_no_half_copy(self, command, data, model, small_disk):
        filler, out = small_disk / "filler", small_disk / "out.h5ad"
        filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 8192))
        assert "is full; make room, and repeat the command" in fails(command, data, out, "--model", model)
        assert not [path for path in small_disk.glob("out*") if path.is_file()]
        filler.unlink()
        invoke(command, data, out, "--model", model)
        assert sorted(small_disk.iterdir()) == [out]

    def test_when_something_is_added_to_the_copy(self, data, small_disk):
        def change(file):
            put_rows(file, "X_many", iter([np.zeros((1000, 500), np.float32)]), (1000, 500))

        with pytest.raises(DataError, match="is full; make room"):
            write_copy(data, small_disk / "out.h5ad", change)
        assert list(small_disk.iterdir()) == []

    def test_when_rows_are_appended(self, small_disk):
        part = embed._Partial.open(small_disk / "out.h5ad", identity="a", num_cells=2000)

        def write_all():
            with on_disk(small_disk, kept=" It is kept."):
                for start in range(0, 2000, 100):
                    part.write(np.arange(start, start + 100), np.ones((100, 500), np.float32))
                    if start == 200:
                        part.flush()

        with pytest.raises(DataError, match=r"is full; .* is kept"):
            write_all()
        part.close()
        again = embed._Partial.open(small_disk / "out.h5ad", identity="a", num_cells=2000)
        assert (again.done, again.width) == (300, 500)
