"""``hub pull``: models from a hub on this machine, into the cache or a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.hub_stub import PUSHES, TOKEN
from tests.test_hub.commands import contents, invoke, model

__all__ = ["model"]  # a fixture

pytestmark = PUSHES


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
