"""Models from addresses: whose folder it is, who reads it, and what is kept of where it came from."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub import load_bundle, load_model, save_bundle
from scmodelforge.hub.load import import_published
from scmodelforge.hub.locate import Located
from scmodelforge.hub.pretrained import PretrainedModel, PublishedFile, get_pretrained
from tests.test_hub import test_bundle
from tests.test_hub.test_bundle import make_bundle
from tests.test_hub.toy_importer import SETTINGS, WEIGHTS, ToyImporter, publish


@pytest.fixture
def folder(tmp_path) -> Path:
    save_bundle(tmp_path / "run" / "model", make_bundle(), card="A card.\n")
    return tmp_path / "run" / "model"


@pytest.fixture
def toy(monkeypatch) -> type[ToyImporter]:
    """Return an importer that is registered in this test only."""
    IMPORTERS.names()  # those of the package are there first
    monkeypatch.setitem(IMPORTERS._parts, "toy", ToyImporter)
    monkeypatch.setattr(ToyImporter, "asked", [])
    return ToyImporter


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("scmodelforge"), "propagate", True)
    caplog.set_level("INFO", logger="scmodelforge")
    return caplog


def refusal(address: str | Path, **options) -> str:
    with pytest.raises((ConfigError, DataError)) as found:
        load_model(address, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


class TestFoldersOfOurs:
    @pytest.mark.parametrize("kind", [str, Path])
    def test_are_loaded_as_they_are(self, folder, kind):
        found, expected = load_model(kind(folder)), load_bundle(folder)
        assert found.model_id == expected.model_id == "000000000000@7"
        assert found.fingerprint == expected.fingerprint
        for name, weight in expected.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], weight), name
        assert not found.model.training

    def test_a_run_folder_stands_for_its_exported_model(self, folder):
        found = load_model(folder.parent)
        assert found.vocab.digest() == load_bundle(folder).vocab.digest()
        assert found.origin == str(folder.parent)

    def test_where_a_model_was_loaded_from_is_not_saved(self, folder, tmp_path):
        save_bundle(tmp_path / "again", load_model(folder), card="A card.\n")
        for path in folder.iterdir():
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name

    def test_dictionaries_are_not_used_and_that_is_said(self, folder, tmp_path, log):
        load_model(folder, dictionaries=tmp_path)
        assert f"{folder}: has a vocabulary of its own; the dictionaries in {tmp_path} are not used" in log.text

    def test_code_in_a_folder_is_not_run_unasked(self, tmp_path):
        folder, mark = test_bundle.TestPlugins().saved(tmp_path, "own_at_an_address")
        assert "--trust-plugins" in refusal(folder)
        assert not mark.exists()
        assert load_model(folder, trust_plugins=True).model_config.architecture == "own_at_an_address"

    @pytest.mark.parametrize("missing", ["config.json", "fingerprint.json", "model.safetensors"])
    def test_what_is_missing_in_one_is_named(self, folder, missing, toy):
        (folder / missing).unlink()
        assert f"is not a complete model folder: {missing} missing" in refusal(folder)

    def test_one_of_another_format_is_told_from_one_of_another_kind(self, folder):
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "format_version": 99}))
        assert "model folder of format 99" in refusal(folder)


class TestPublishedFolders:
    def test_are_read_by_their_importer(self, tmp_path, toy, log):
        found = load_model(publish(tmp_path / "toy-7b"))
        for name, weight in make_bundle().model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], weight), name
        assert found.origin == str(tmp_path / "toy-7b")
        assert "read by the importer 'toy'" in log.text
        assert f"{len(found.model.state_dict())} weights matched" in log.text

    def test_origin_is_kept_without_the_place_on_this_machine(self, tmp_path, toy):
        fingerprint = load_model(publish(tmp_path / "toy-7b")).fingerprint
        assert fingerprint["imported_from"]["importer"] == "toy"
        assert fingerprint["imported_from"]["folder"] == "toy-7b"
        assert "origin" not in fingerprint["imported_from"]
        assert set(fingerprint["imported_from"]["files"]) == {SETTINGS, WEIGHTS}
        assert str(tmp_path) not in json.dumps(fingerprint)

    def test_are_called_by_their_weights(self, tmp_path, toy):
        """The name is the same wherever the folder is, another one for other weights, and goes with the model."""
        one, moved, other = (
            load_model(publish(tmp_path / name, change=change)) for name, change in (("a", 0), ("b", 0), ("c", 0.5))
        )
        assert one.model_id == moved.model_id != other.model_id
        number, _, step = one.model_id.partition("@")
        assert (len(number), step) == (12, "0")
        assert int(number, 16)
        save_bundle(tmp_path / "saved", one, card="")
        assert load_model(tmp_path / "saved").model_id == one.model_id
        assert load_model(tmp_path / "saved").fingerprint == one.fingerprint

    def test_dictionaries_are_handed_over(self, tmp_path, toy):
        load_model(publish(tmp_path / "toy"), dictionaries=str(tmp_path))
        load_model(tmp_path / "toy")
        assert toy.asked == [(tmp_path, None), (None, None)]

    def test_dictionaries_that_are_not_there(self, tmp_path, toy):
        publish(tmp_path / "toy")
        assert refusal(tmp_path / "toy", dictionaries="nowhere") == (
            "nowhere: no such folder; name the one with the dictionaries of the published model."
        )
        assert toy.asked == []

    def test_one_whose_body_was_not_read_is_refused(self, tmp_path, toy, monkeypatch):
        monkeypatch.setattr(toy, "missing", ["encoder.layers.0.attention.q.weight"])
        assert "encoder.layers.0.attention.q.weight" in refusal(publish(tmp_path / "toy"))

    def test_one_that_two_importers_take_is_refused(self, tmp_path, toy, monkeypatch):
        monkeypatch.setitem(IMPORTERS._parts, "twin", ToyImporter)
        assert "could be of several kinds of models (toy, twin)" in refusal(publish(tmp_path / "toy"))
        assert toy.asked == []


class TestModelsOfTheRegistry:
    def entry(self, num_tokens: int | None) -> PretrainedModel:
        files = [PublishedFile(path=SETTINGS), PublishedFile(path=WEIGHTS, sha256="a" * 64)]
        other = get_pretrained("geneformer-v2")
        vocabulary = other.vocabulary.model_copy(update={"num_tokens": num_tokens or len(make_bundle().vocab)})
        changes = {"name": "toy-7b", "title": "Toy, 7 weights", "importer": "toy", "files": files}
        return other.model_copy(update={**changes, "vocabulary": vocabulary})

    def located(self, folder: Path, *, num_tokens: int | None = None) -> Located:
        return Located(folder, "hf://me/toy@0f3a", self.entry(num_tokens))

    def test_their_checksums_and_address_are_handed_over(self, tmp_path, toy):
        where = self.located(publish(tmp_path / "snapshot"))
        bundle = import_published(where)[1].bundle
        assert toy.asked == [(None, {WEIGHTS: "a" * 64})]
        assert bundle.fingerprint["imported_from"]["origin"] == "hf://me/toy@0f3a"

    def test_only_the_importer_that_is_named_there_is_asked(self, tmp_path, toy, monkeypatch):
        monkeypatch.setitem(IMPORTERS._parts, "twin", ToyImporter)
        where = self.located(publish(tmp_path / "snapshot"))
        assert import_published(where)[0] == "toy"

    def test_one_with_another_vocabulary_is_refused(self, tmp_path, toy):
        own = len(make_bundle().vocab)
        with pytest.raises(DataError, match=f"its vocabulary has {own} tokens, that of toy-7b 60,697; put the files"):
            import_published(self.located(publish(tmp_path / "toy"), num_tokens=60_697))

    def test_other_files_are_refused(self, tmp_path, toy):
        (tmp_path / "readme.txt").touch()
        with pytest.raises(DataError, match=r"is not Toy, 7 weights: it holds readme.txt; toy.json, toy.safetensors"):
            import_published(self.located(tmp_path))


class TestOtherFolders:
    def test_what_they_hold_and_what_can_be_imported_is_said(self, tmp_path, toy):
        (tmp_path / "images").mkdir()
        (tmp_path / "weights.bin").touch()
        found = refusal(tmp_path)
        assert f"{tmp_path} is neither a model folder nor a run folder" in found
        assert "toy" in found.partition("imported (")[2].partition(")")[0].split(", ")
        assert "it holds images/, weights.bin; give the folder" in found

    def test_empty_ones(self, tmp_path):
        assert "it is empty" in refusal(tmp_path)

    def test_a_run_that_has_not_finished(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        assert f"without an exported model; let the run finish: scmodelforge train --resume {tmp_path}" in refusal(
            tmp_path
        )

    def test_a_file_of_settings_that_is_none(self, tmp_path, toy):
        (tmp_path / "config.json").write_text("{")
        assert "it holds config.json" in refusal(tmp_path)

    def test_a_folder_that_is_not_there(self, tmp_path):
        assert "no such folder" in refusal(tmp_path / "nowhere")

    @pytest.mark.parametrize("address", ["hf://toy", "s3://bucket/toy", "scmodelforge://a/b", ""])
    def test_addresses_of_other_forms(self, address):
        assert "hf://owner/name" in refusal(address) or "models list --pretrained" in refusal(address)
