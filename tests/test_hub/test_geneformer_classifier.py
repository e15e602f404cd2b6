"""Published classifiers of cells become whole models with the names of their classes."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.hub.bundle import load_bundle, save_bundle
from scmodelforge.hub.importers.base import find_importer
from scmodelforge.workflows.label_predictions import label_head
from tests.test_models.test_published.test_geneformer_classifier import NAMES, published, write_classifier

from .published_folders import MEDIANS, TOKENS, bundle_batch, write_geneformer

GENERIC = {str(number): f"LABEL_{number}" for number in range(3)}


@pytest.fixture
def folder(tmp_path):
    path = write_classifier(tmp_path / "published")
    (path / "token_dictionary.json").write_text(json.dumps(TOKENS))
    (path / "gene_median_dictionary.json").write_text(json.dumps(MEDIANS))
    return path


def imported(folder, **options):
    name, importer = find_importer(folder)
    assert name == "geneformer-classifier"
    return importer.load(folder, **options)


def rename(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_it_is_a_whole_model_that_comes_back_bit_for_bit(folder, tmp_path):
    found = imported(folder)
    assert found.report.missing == found.report.unexpected == []
    assert len(found.report.matched) == len(published())
    bundle = found.bundle
    save_bundle(tmp_path / "ours", bundle, card="a card")
    again = load_bundle(tmp_path / "ours")
    batch = bundle_batch(bundle)
    with torch.no_grad():
        for call in ("score_cell_types", "encode"):
            assert torch.equal(getattr(bundle.model, call)(**batch), getattr(again.model, call)(**batch))
        head = label_head(again.model, again.model_config, again.labels)
        assert head.encode(**batch).shape == (3, 3)
    assert head.names.tolist() == NAMES
    assert again.objective == "cell_type_annotation"
    assert again.fingerprint["imported_from"]["importer"] == "geneformer-classifier"
    assert {"config.json", "model.safetensors"} <= set(again.fingerprint["imported_from"]["files"])


def test_a_model_that_predicts_genes_is_none(tmp_path):
    assert find_importer(write_geneformer(tmp_path / "other"))[0] == "geneformer"


class TestNames:
    def test_without_others_they_stay_as_they_are(self, folder):
        rename(folder, id2label=GENERIC)
        assert imported(folder).bundle.labels["categories"] == list(GENERIC.values())

    def test_the_official_codes_dictionary_has_them(self, folder):
        rename(folder, id2label=GENERIC)
        (folder / "heart_id_class_dict.pkl").write_bytes(pickle.dumps({0: "nf", 2: "hcm", 1: "dcm"}))
        found = imported(folder).bundle
        assert found.labels["categories"] == ["nf", "dcm", "hcm"]
        assert "heart_id_class_dict.pkl" in found.fingerprint["imported_from"]["files"]

    def test_names_of_the_settings_come_first(self, folder):
        (folder / "heart_id_class_dict.pkl").write_bytes(pickle.dumps({0: "nf", 1: "dcm", 2: "hcm"}))
        assert imported(folder).bundle.labels["categories"] == NAMES

    @pytest.mark.parametrize("content", [{0: "nf", 1: "dcm"}, {0: "nf", 1: "dcm", 2: "dcm"}, {1: "a", 2: "b", 3: "c"}])
    def test_a_dictionary_of_another_model_is_refused(self, folder, content):
        rename(folder, id2label=GENERIC)
        (folder / "heart_id_class_dict.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="does not give each of the classes 0 to 2 a name of its own"):
            imported(folder)

    def test_a_pickle_that_would_run_something_is_refused(self, folder):
        rename(folder, id2label=GENERIC)
        (folder / "heart_id_class_dict.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        with pytest.raises(DataError, match=r"it asks for os.system; only a dictionary"):
            imported(folder)

    def test_two_dictionaries_are_refused(self, folder):
        rename(folder, id2label=GENERIC)
        for name in ("a", "b"):
            (folder / f"{name}_id_class_dict.pkl").write_bytes(pickle.dumps({0: "nf", 1: "dcm", 2: "hcm"}))
        with pytest.raises(DataError, match=r"has 2 files \*_id_class_dict.pkl; leave the one"):
            imported(folder)


class TestRefused:
    def test_part_of_the_weights(self, folder):
        weights = {name: tensor for name, tensor in published().items() if name != "classifier.bias"}
        write_classifier(folder, weights)
        with pytest.raises(DataError, match=r"classifier.bias missing; a BertForSequenceClassification"):
            imported(folder)

    def test_a_file_that_is_not_the_published_one(self, folder):
        with pytest.raises(DataError, match=r"model.safetensors is not the published file: its sha256 is"):
            imported(folder, sha256={"model.safetensors": "0" * 64})

    def test_a_vocabulary_of_another_release(self, folder):
        tokens = {token: number for token, number in TOKENS.items() if number < len(TOKENS) - 1}
        (folder / "token_dictionary.json").write_text(json.dumps(tokens))
        with pytest.raises(DataError, match="the weights have 23 tokens and the dictionaries 22"):
            imported(folder)
