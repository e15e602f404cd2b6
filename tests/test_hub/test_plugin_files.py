"""Plugins of a model folder are its own files, and none of another place gets into it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import load_bundle, save_bundle
from scmodelforge.hub.plugin_files import copy_plugins
from scmodelforge.hub.push import Target, push_bundle
from tests.hub_stub import PUSHES

from .commands import invoke
from .test_bundle import make_bundle


@pytest.fixture
def folder(tmp_path) -> Path:
    save_bundle(tmp_path / "model", make_bundle(), card="A card.\n")
    (tmp_path / "model/plugins").mkdir()
    (tmp_path / "model/plugins/own.py").write_text("x = 1\n")
    (tmp_path / "foreign.py").write_text("raise RuntimeError('must not run')\n")
    return tmp_path / "model"


def name_plugins(folder: Path, *names: str) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "plugins": list(names)}))


def snapshot_of(folder: Path, cache: Path) -> Path:
    """Lay a folder out as the hub's client does: links to the files in ``blobs``."""
    home = cache / "models--me--toy"
    snapshot = home / "snapshots/0f3a"
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        blob, link = home / "blobs" / str(number), snapshot / path.relative_to(folder)
        for place in (blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../foreign.py",
            "plugins/../../foreign.py",
            "plugins/sub/own.py",
            "/{place}/foreign.py",
            "own.py",
            "plugins/",
            "plugins/own.txt",
            "plugins\\own.py",
            "plugins/.py",
            "plugins/own.py\n",
            "",
            "os.path/../x",
            ".hidden",
            "a..b",
            "foreign.py",
        ],
    )
    @pytest.mark.parametrize("trusted", [False, True])
    def test_others_than_own_files_are_refused(self, folder, tmp_path, name, trusted):
        name_plugins(folder, "plugins/own.py", name.replace("/{place}", str(tmp_path)))
        with pytest.raises(DataError, match=r"config\.json: plugins has .*a file plugins/NAME\.py of the folder"):
            load_bundle(folder, trust_plugins=trusted)

    def test_own_files_and_modules_are_taken(self, folder):
        name_plugins(folder, "plugins/own.py", "a_module.of_mine")
        assert load_bundle(folder).plugins == [str(folder / "plugins/own.py"), "a_module.of_mine"]

    def test_one_that_is_not_there_is_named(self, folder):
        name_plugins(folder, "plugins/other.py")
        with pytest.raises(DataError, match=r"names the plugin 'plugins/other\.py', which is not there"):
            load_bundle(folder)


class TestLinks:
    @pytest.mark.parametrize("name", ["plugins/own.py", "fingerprint.json", "README.md", "plugins"])
    def test_out_of_the_folder_are_refused(self, folder, tmp_path, name):
        name_plugins(folder, "plugins/own.py")
        (tmp_path / "elsewhere").mkdir()
        (folder / name).rename(tmp_path / "elsewhere/it")
        (folder / name).symlink_to(tmp_path / "elsewhere/it")
        with pytest.raises(DataError, match=r"is a link to .*/elsewhere/it.*, out of the model folder; put the file"):
            load_bundle(folder)

    def test_within_it_and_of_the_whole_folder_are_taken(self, folder, tmp_path):
        (folder / "plugins/own.py").rename(folder / "kept.py")
        (folder / "plugins/own.py").symlink_to("../kept.py")
        name_plugins(folder, "plugins/own.py")
        (tmp_path / "link").symlink_to(folder)
        assert load_bundle(tmp_path / "link").plugins == [str(tmp_path / "link/plugins/own.py")]

    def test_of_a_snapshot_of_the_hub_are_taken(self, folder, tmp_path):
        name_plugins(folder, "plugins/own.py")
        snapshot = snapshot_of(folder, tmp_path / "hub")
        assert load_bundle(snapshot).plugins == [str(snapshot / "plugins/own.py")]

    def test_of_a_snapshot_to_another_repository_are_refused(self, folder, tmp_path):
        name_plugins(folder, "plugins/own.py")
        snapshot = snapshot_of(folder, tmp_path / "hub")
        other = tmp_path / "hub/models--you--other/blobs/0"
        other.parent.mkdir(parents=True)
        other.write_text("x = 2\n")
        (snapshot / "plugins/own.py").unlink()
        (snapshot / "plugins/own.py").symlink_to(other)
        with pytest.raises(DataError, match="out of the model folder"):
            load_bundle(snapshot)


class TestCopies:
    def test_two_files_of_one_name_are_refused_and_none_is_copied(self, tmp_path):
        for place in ("a", "b"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "own.py").write_text(place)
        plugins = [str(tmp_path / "a/own.py"), str(tmp_path / "b/own.py")]
        with pytest.raises(ConfigError, match=r"a/own\.py and .*b/own\.py have one file name"):
            copy_plugins(plugins, tmp_path)
        assert not (tmp_path / "plugins").exists()

    def test_one_file_named_twice_is_one(self, tmp_path):
        (tmp_path / "own.py").write_text("x = 1\n")
        plugins = [str(tmp_path / "own.py"), str(tmp_path / "sub/../own.py"), "a.module"]
        (tmp_path / "sub").mkdir()
        assert copy_plugins(plugins, tmp_path) == ["plugins/own.py", "a.module"]

    def test_a_name_that_could_not_be_loaded_again_is_refused(self, tmp_path):
        (tmp_path / "my own.py").write_text("")
        with pytest.raises(ConfigError, match=r"plugin 'my own\.py': .* rename the file"):
            copy_plugins([str(tmp_path / "my own.py")], tmp_path)

    def test_saving_what_was_loaded_copies_the_folders_own(self, folder, tmp_path):
        name_plugins(folder, "plugins/own.py")
        save_bundle(tmp_path / "again", load_bundle(folder), card="")
        assert [path.name for path in (tmp_path / "again/plugins").iterdir()] == ["own.py"]


class TestCodeThatNobodyTrusts:
    """A model of a known architecture is loaded without its plugins, whatever its objective; so it is passed on."""

    @pytest.fixture
    def untrusted(self, folder) -> Path:
        (folder / "plugins/own.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()\n")
        name_plugins(folder, "plugins/own.py")
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "objective": "their_own"}))
        return folder

    @pytest.mark.parametrize("form", ["folder", "vcp"])
    def test_does_not_run_when_the_model_is_exported(self, untrusted, tmp_path, form):
        invoke("export", untrusted, tmp_path / "out", "--format", form)
        assert list((tmp_path / "out").rglob("own.py"))
        assert not (tmp_path / "ran").exists()

    @PUSHES
    def test_does_not_run_when_the_model_is_pushed(self, untrusted, tmp_path, hub):
        push_bundle(load_bundle(untrusted), "A card.\n", Target("me/toy"))
        assert not (tmp_path / "ran").exists()
