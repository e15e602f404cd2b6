"""``hub export``: a model as a folder that can be moved."""

from __future__ import annotations

import shutil

import pytest

from scmodelforge.hub import load_bundle
from scmodelforge.workflows.card_text import stated_licence
from scmodelforge.workflows.model_folders import new_folder
from tests.test_hub.commands import contents, invoke, model

__all__ = ["model"]  # a fixture


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
        assert "unknown format 'vpc'. Did you mean 'vcp'? There are: folder, vcp, adapter, merged." in result.stderr

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
