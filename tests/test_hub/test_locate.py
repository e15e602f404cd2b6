"""Files of models from the hub and from the list of published ones: fetched once, checked, refused in one line."""

from __future__ import annotations

import os
import shutil

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import checksums
from scmodelforge.hub import locate as locating
from scmodelforge.hub.addresses import HubRepository, LocalFolder, NamedModel, parse_address
from scmodelforge.hub.locate import locate
from scmodelforge.hub.pretrained import HubPlace, PretrainedModel, PublishedFile, get_pretrained
from tests.hub_stub import sha256, use_hub

WEIGHTS = bytes(range(256)) * 800
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "small/config.json": b"[]", "small/deep/a.txt": b"a"}
TOY = HubRepository("me/toy")


def entry(**changes) -> PretrainedModel:
    """Return what the list could say of a toy; what is not given is as of another model."""
    files = [
        PublishedFile(path="config.json"),
        PublishedFile(path="model.safetensors", sha256=sha256(WEIGHTS), bytes=len(WEIGHTS)),
    ]
    facts = {
        "name": "toy-v1",
        "aliases": [],
        "hub": HubPlace(repository="me/toy", folder="v1"),
        "page": "https://example.org/toy",
        "files": files,
    }
    return get_pretrained("geneformer-v2").model_copy(update={**facts, **changes})


@pytest.fixture
def named(hub, monkeypatch):
    """Register a toy on the hub in the list of published models, and return it."""

    def register(**changes) -> PretrainedModel:
        found = entry(**changes)
        monkeypatch.setattr(locating, "get_pretrained", lambda name: found)
        return found

    hub.add("me/toy", {f"v1/{path}": data for path, data in FILES.items()} | {"v2/model.safetensors": b"other"})
    register()
    return register


class TestFolders:
    def test_the_exported_model_of_a_run_is_meant(self, tmp_path):
        (tmp_path / "run/model").mkdir(parents=True)
        assert locate(LocalFolder(tmp_path / "run")).folder == tmp_path / "run"
        (tmp_path / "run/model/config.json").touch()
        assert locate(LocalFolder(tmp_path / "run")).folder == tmp_path / "run/model"

    def test_one_that_is_not_there_is_refused(self, tmp_path):
        (tmp_path / "runs" / "lung").mkdir(parents=True)
        (tmp_path / "settings.yaml").write_text("")
        for text, words in (
            ("geneformer-v2", "Did you mean scmodelforge://geneformer-v2?"),
            ("owner/name", "For a repository on the hub give hf://owner/name."),
            (str(tmp_path / "runs" / "lungg"), "Did you mean 'lung'?"),
            (str(tmp_path / "settings.yaml"), "settings.yaml is a file; give the model's folder"),
        ):
            with pytest.raises(DataError) as caught:
                locate(parse_address(text))
            assert words in str(caught.value)
        with pytest.raises(DataError, match="no such folder; correct the path"):
            locate(LocalFolder(tmp_path / "nothing"))


class TestRepositories:
    def test_all_files_of_the_main_branch_are_fetched_and_the_origin_has_the_commit(self, hub):
        repository = hub.add("me/toy", FILES)
        found = locate(TOY)
        assert {path: (found.folder / path).read_bytes() for path in FILES} == FILES
        assert found.origin == f"hf://me/toy@{repository.names['main']}"

    def test_a_revision_and_a_folder_can_be_asked_for(self, hub):
        repository = hub.add("me/toy", FILES)
        repository.commit({**FILES, "small/config.json": b"[1]"}, "v2")
        found = locate(parse_address("hf://me/toy@v2/small"))
        assert (found.folder / "config.json").read_bytes() == b"[1]"
        assert (found.folder / "deep/a.txt").exists()
        assert not (found.folder.parent / "model.safetensors").exists()  # nothing else was fetched
        assert found.origin == f"hf://me/toy@{repository.names['v2']}/small"

    def test_nothing_is_fetched_twice(self, hub):
        hub.add("me/toy", FILES)
        locate(TOY)
        before = len(hub.asked)
        locate(TOY)
        assert not [each for each in hub.asked[before:] if each.startswith("GET /me/toy/resolve")]

    @pytest.mark.parametrize("how", ["offline", "environment", "refused"])
    def test_what_was_fetched_is_found_without_a_network(self, hub, tmp_path, monkeypatch, how):
        hub.add("me/toy", FILES)
        first = locate(TOY)
        if how == "environment":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        if how == "refused":
            use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hf")
        assert locate(TOY, offline=how == "offline") == first

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            ("offline", "only this machine was looked on"),
            ("environment", "HF_HUB_OFFLINE is set"),
            ("refused", r"the hub gave no answer \(.*refused\)"),
        ],
    )
    def test_what_was_not_is_answered_with_the_command_that_fetches_it(self, hub, tmp_path, monkeypatch, how, why):
        if how == "environment":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        if how == "refused":
            use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hf")
        with pytest.raises(DataError, match=why) as caught:
            locate(parse_address("hf://me/toy@v2/small"), offline=how == "offline")
        command = "hf download me/toy --include 'small/*' --revision v2 --local-dir toy; copy the folder toy/small here"
        assert command in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_the_token_of_the_environment_is_used(self, hub):
        hub.add("me/toy", FILES, access="private")
        assert (locate(TOY).folder / "config.json").exists()

    @pytest.mark.parametrize(
        ("access", "token", "what"),
        [
            ("private", False, "no such repository, or you may not read it; .*hf auth login"),
            ("public", "hf_wrong", r"does not know your token \(401\); log in with 'hf auth login', or set HF_TOKEN"),
            ("gated", None, "its owners grant access; ask for it on https://huggingface.co/me/toy"),
        ],
    )
    def test_what_the_hub_refuses_is_one_line(self, hub, access, token, what):
        hub.add("me/toy", FILES, access=access)
        with pytest.raises(DataError, match=what) as caught:
            locate(TOY, token=token)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("address", "what"),
        [
            ("hf://me/none", "no such repository"),
            ("hf://me/to--y", "no name of a repository"),
            ("hf://me/toy@v9", "no revision 'v9'"),
            ("hf://me/toy/large", "no folder 'large' in the repository"),
            ("hf://me/empty", "no file in the repository"),
        ],
    )
    def test_what_is_not_there_is_one_line(self, hub, address, what):
        hub.add("me/toy", FILES)
        hub.add("me/empty", {})
        with pytest.raises(DataError, match=what):
            locate(parse_address(address))

    def test_a_hub_out_of_order_is_one_line(self, hub):
        hub.add("me/toy", FILES)
        hub.faults = [("GET /api/models", 500)] * 9
        with pytest.raises(DataError, match=r"busy or out of order \(status 500\)"):
            locate(TOY)

    def test_a_full_disk_is_one_line(self, hub, monkeypatch):
        hub.add("me/toy", FILES)

        def full(*words, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(DataError, match="the disk is full; make room, or set HF_HOME"):
            locate(TOY)

    def test_a_cache_that_cannot_be_written_is_one_line(self, hub, tmp_path, monkeypatch):
        hub.add("me/toy", FILES)
        (tmp_path / "file").touch()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
        with pytest.raises(DataError, match=r"cannot write .*; set HF_HOME to a folder you may write to"):
            locate(TOY)


@pytest.mark.usefixtures("impatient")
class TestBrokenDownloads:
    def test_it_goes_on_where_the_connection_broke(self, hub):
        hub.add("me/toy", FILES)
        hub.faults = [("GET .*model.safetensors", "cut")]
        assert (locate(TOY).folder / "model.safetensors").read_bytes() == WEIGHTS

    def test_nothing_half_is_taken_for_whole(self, hub, monkeypatch):
        hub.add("me/toy", FILES)
        hub.faults = [("GET .*model.safetensors", "cut"), *[("GET .*model.safetensors", "refuse")] * 20]
        with pytest.raises(DataError, match="the hub gave no answer"):
            locate(TOY)
        with pytest.raises(DataError, match="not whole on this machine"):
            locate(TOY, offline=True)
        hub.faults = []
        assert (locate(TOY).folder / "model.safetensors").read_bytes() == WEIGHTS


class TestPublishedModels:
    def test_only_its_files_are_fetched(self, hub, named):
        found = locate(NamedModel("toy-v1"))
        assert sorted(os.listdir(found.folder)) == ["config.json", "model.safetensors"]
        assert found.folder.name == "v1"
        assert os.listdir(found.folder.parent) == ["v1"]
        commit = hub.repositories["me/toy"].names["main"]
        assert found.origin == f"scmodelforge://toy-v1 (hf://me/toy@{commit}/v1)"
        assert found.entry.name == "toy-v1"

    def test_files_put_in_their_place_are_found_without_the_hub(self, hub, named, tmp_path):
        own = tmp_path / "cache/pretrained/toy-v1"
        own.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (own / name).write_bytes(FILES[name])
        found = locate(NamedModel("toy-v1"), offline=True)
        assert (found.folder, found.origin) == (own, "scmodelforge://toy-v1")
        assert not hub.asked

    def test_another_file_is_refused(self, hub, named):
        files = {f"v1/{path}": data for path, data in FILES.items()}
        hub.add("me/toy", files | {"v1/model.safetensors": WEIGHTS[::-1]})
        with pytest.raises(DataError, match=r"not the published file, .*hub pull scmodelforge://toy-v1"):
            locate(NamedModel("toy-v1"))

    def test_a_file_of_another_size_is_refused_unread(self, hub, named, monkeypatch):
        hub.add("me/toy", {"v1/config.json": b"{}", "v1/model.safetensors": b"short"})
        monkeypatch.setattr(checksums, "sha256_of", None)
        with pytest.raises(DataError, match="5 bytes, the published file has 204,800; delete it and fetch it again"):
            locate(NamedModel("toy-v1"))

    def test_what_was_compared_is_not_read_again_until_it_changes(self, named, monkeypatch):
        found = locate(NamedModel("toy-v1"))
        read = []
        monkeypatch.setattr(checksums, "digest_of", lambda path: read.append(path) or sha256(path.read_bytes()))
        locate(NamedModel("toy-v1"))
        assert not read
        weights = (found.folder / "model.safetensors").resolve()
        weights.write_bytes(WEIGHTS[::-1])
        os.utime(weights, ns=(1, 1))
        with pytest.raises(DataError, match="not the published file"):
            locate(NamedModel("toy-v1"))

    def test_a_damaged_note_of_what_was_compared_is_made_anew(self, named, tmp_path):
        locate(NamedModel("toy-v1"))
        note = tmp_path / "cache/checked.json"
        note.write_text("[1")
        locate(NamedModel("toy-v1"))
        assert sha256(WEIGHTS) in note.read_text()

    def test_offline_the_command_and_the_place_are_named(self, named, tmp_path):
        with pytest.raises(DataError) as caught:
            locate(NamedModel("toy-v1"), offline=True)
        assert str(caught.value) == (
            "scmodelforge://toy-v1: not whole on this machine, and only this machine was looked on. Where there is a "
            "network: hf download me/toy v1/config.json v1/model.safetensors --local-dir toy-v1; copy the folder "
            f"toy-v1/v1 to {tmp_path}/cache/pretrained/toy-v1 here, and use this address again."
        )

    def test_following_that_line_makes_the_address_work(self, hub, named, tmp_path):
        from huggingface_hub import snapshot_download

        there = tmp_path / "there"  # as 'hf download' does it
        snapshot_download("me/toy", allow_patterns=["v1/config.json", "v1/model.safetensors"], local_dir=there)
        shutil.copytree(there / "v1", tmp_path / "cache/pretrained/toy-v1")
        assert locate(NamedModel("toy-v1"), offline=True).folder == tmp_path / "cache/pretrained/toy-v1"

    def test_one_that_is_not_on_the_hub_names_its_page_and_the_folder(self, named, tmp_path):
        named(hub=None)
        with pytest.raises(DataError) as caught:
            locate(NamedModel("toy-v1"))
        own = tmp_path / "cache/pretrained/toy-v1"
        assert str(caught.value) == (
            "scmodelforge://toy-v1: it is not on the hub; download config.json, model.safetensors from "
            f"https://example.org/toy into {own}, and use this address again."
        )
        own.mkdir(parents=True)
        (own / "config.json").write_bytes(b"{}")
        (own / "model.safetensors").write_bytes(WEIGHTS)
        assert locate(NamedModel("toy-v1")).folder == own

    def test_an_unknown_name_is_answered_with_those_there_are(self):
        with pytest.raises(ConfigError, match=r"no published model 'geneformer-v3'\. Did you mean"):
            locate(NamedModel("geneformer-v3"))
