from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import pytest

from scmodelforge import datasets
from scmodelforge._errors import DataError
from scmodelforge._places import cache_folder
from scmodelforge.datasets import store


@pytest.fixture
def here(tiny, content, folder):
    """Put the file into the folder by hand, as a person may."""
    folder.mkdir(parents=True)
    (folder / "tiny.h5ad").write_bytes(content)
    return folder / "tiny.h5ad"


@pytest.fixture
def digests(monkeypatch):
    """Count how often a file is read whole."""
    read, true = [], store.file_digest
    monkeypatch.setattr(store, "file_digest", lambda file, *rest: (read.append(file), true(file, *rest))[1])
    return read


class TestNotThere:
    def test_the_message_has_the_command_and_says_where_to_get_the_file(self, tiny, folder):
        message = (
            f"data set 'tiny' is not on this machine (no {folder}/tiny.h5ad); get cells.h5ad of nobody's page, and "
            "give its address or file: scmodelforge datasets fetch tiny --from URL-OR-FILE"
        )
        with pytest.raises(DataError, match=re.escape(message)):
            datasets.path("tiny")

    @pytest.mark.parametrize("how", ["address", "mirror"])
    def test_the_command_alone_is_enough_where_an_address_is_known(self, tiny, monkeypatch, how):
        tiny(url="https://example.org/x.h5ad" if how == "address" else None)
        if how == "mirror":
            monkeypatch.setenv("SCMODELFORGE_DATASETS_MIRROR", "https://mirror.example.org")
        with pytest.raises(DataError, match=r"fetch it with: scmodelforge datasets fetch tiny\.$"):
            datasets.path("tiny")

    def test_a_wrong_folder_is_named(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_DATASETS", str(tmp_path / "nowhere"))
        with pytest.raises(DataError, match=r"SCMODELFORGE_DATASETS names '.*nowhere', which is no folder; correct it"):
            datasets.path("tiny")


class TestFirstUse:
    def test_a_file_put_there_by_hand_is_pinned(self, here, caplog):
        caplog.set_level(logging.INFO)
        assert datasets.path("tiny") == here
        assert json.loads(here.with_name("tiny.pin.json").read_text())["origin"] == "found"
        assert f"tiny: checking {here}" in caplog.text

    def test_a_file_is_read_whole_once(self, here, digests):
        for _ in range(3):
            datasets.path("tiny")
        assert digests == [here]

    def test_a_touched_file_is_read_again_and_taken(self, here, digests):
        datasets.path("tiny")
        pinned = json.loads(here.with_name("tiny.pin.json").read_text())
        os.utime(here, (1, 1))
        datasets.path("tiny")
        datasets.path("tiny")
        assert len(digests) == 2
        assert json.loads(here.with_name("tiny.pin.json").read_text()) == {**pinned, "mtime_ns": 10**9}

    def test_a_file_that_was_replaced_is_refused(self, here, content):
        datasets.path("tiny")
        here.write_bytes(content + b"x")
        message = (
            r"tiny.h5ad is damaged or another file: its sha256 is \w{12}..., pinned on \S+ was \w{12}...; fetch it"
        )
        for _ in range(2):
            with pytest.raises(DataError, match=message):
                datasets.path("tiny")

    def test_a_file_that_is_not_the_published_one_is_refused(self, here, tiny):
        tiny(sha256="0" * 64)
        with pytest.raises(DataError, match=r"published was 000000000000..."):
            datasets.path("tiny")

    def test_a_file_that_holds_no_cells_is_not_pinned(self, here):
        here.write_bytes(b"<html>")
        with pytest.raises(DataError, match=r"is damaged or no \.h5ad file"):
            datasets.path("tiny")
        assert not here.with_name("tiny.pin.json").exists()

    @pytest.mark.parametrize("text", ["{", "[]", '{"sha": 1}'])
    def test_a_damaged_pin_is_told(self, here, text):
        here.with_name("tiny.pin.json").write_text(text)
        with pytest.raises(DataError, match=r"tiny.pin.json.*remove it to take the data set's file as it is now"):
            datasets.path("tiny")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_shared_folder_may_be_for_reading_only(self, here, caplog):
        here.parent.chmod(0o500)
        try:
            assert datasets.path("tiny") == here
            assert "cannot be written (Permission denied): tiny.h5ad is read whole at each use" in caplog.text
        finally:
            here.parent.chmod(0o700)


class TestCacheFolder:
    def test_is_the_platform_s(self, monkeypatch, tmp_path):
        monkeypatch.delenv("SCMODELFORGE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "scmodelforge"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr("sys.platform", "linux")
        assert cache_folder() == Path.home() / ".cache/scmodelforge"
        monkeypatch.setattr("sys.platform", "darwin")
        assert cache_folder() == Path.home() / "Library/Caches/scmodelforge"
        monkeypatch.setattr("sys.platform", "win32")
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert cache_folder() == tmp_path / "local/scmodelforge"
