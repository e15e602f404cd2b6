"""An imported model has the dictionaries that it was published with, where their checksums are known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from scmodelforge._errors import DataError
from scmodelforge.hub import published_vocabulary
from scmodelforge.hub.load import import_published, load_model
from scmodelforge.hub.locate import Located
from scmodelforge.hub.pretrained import PretrainedModel, PublishedFile, get_pretrained

from .published_folders import GENES, MEDIANS, TOKENS, write_geneformer

NAMES = ("token_dictionary.json", "gene_median_dictionary.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry_of(folder: Path) -> PretrainedModel:
    """Return an entry of the list for a tiny model as it is in a folder."""
    other = get_pretrained("geneformer-v2")
    files = [PublishedFile(path=f"published_{name}", sha256=sha256(folder / name)) for name in NAMES]
    vocabulary = other.vocabulary.model_copy(update={"num_tokens": len(TOKENS), "files": files})
    weights = [PublishedFile(path="model.safetensors", sha256=sha256(folder / "model.safetensors"))]
    return other.model_copy(update={"files": weights, "vocabulary": vocabulary})


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_geneformer(tmp_path / "theirs")


def other_medians(folder: Path) -> None:
    (folder / NAMES[1]).write_text(json.dumps({**MEDIANS, GENES[0]: 77.0}))


class TestDictionaries:
    def test_that_were_published_are_taken_under_any_name(self, folder):
        assert import_published(Located(folder, "scmodelforge://toy", entry_of(folder)))[0] == "geneformer"

    def test_others_of_the_same_genes_are_refused(self, folder):
        entry = entry_of(folder)
        other_medians(folder)
        with pytest.raises(DataError, match=r"gene_median_dictionary\.json \(sha256 \w+\.\.\.\) is no dictionary of "):
            import_published(Located(folder, "scmodelforge://toy", entry))

    def test_others_are_refused_too_where_the_weights_tell_which_model_it_is(self, folder, monkeypatch):
        entry = entry_of(folder)
        monkeypatch.setattr(published_vocabulary, "list_pretrained", lambda: (entry,))
        load_model(folder)
        other_medians(folder)
        with pytest.raises(DataError, match=r"take those that it was published with: published_token_dictionary\.json"):
            load_model(folder)

    def test_of_a_model_that_is_not_in_the_list_are_its_own(self, folder):
        other_medians(folder)
        load_model(folder)

    def test_without_known_checksums_are_taken(self, folder):
        entry = entry_of(folder)
        files = [file.model_copy(update={"sha256": None}) for file in entry.vocabulary.files]
        unknown = entry.model_copy(update={"vocabulary": entry.vocabulary.model_copy(update={"files": files})})
        other_medians(folder)
        import_published(Located(folder, "scmodelforge://toy", unknown))
