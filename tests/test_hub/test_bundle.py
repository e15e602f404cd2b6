"""The model folder: complete, self-contained, without code, and loud about what is wrong with it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import ModelConfig, PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub import Bundle, load_bundle, save_bundle
from scmodelforge.hub.bundle import build_model
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.rank_value import RankValueConfig
from scmodelforge.tokenizers.saved import save_tokenizer

GENES = [f"ENSG{i:011d}" for i in range(1, 21)]


def make_bundle(architecture: str = "transformer_encoder") -> Bundle:
    vocab = GeneVocab.from_genes(GENES, name="test")
    tokenizer = get_tokenizer("rank_value", RankValueConfig(max_genes=12, medians="none"), vocab)
    from scmodelforge._registry import MODELS

    config = getattr(MODELS.get(architecture), "config_class", ModelConfig)(
        architecture=architecture, vocab_size=len(vocab), hidden_dim=16, num_layers=1, num_heads=2, max_seq_len=12
    )
    torch.manual_seed(0)
    return Bundle(
        model=build_model(config, tokenizer),
        model_config=config,
        tokenizer=tokenizer,
        vocab=vocab,
        preprocessor=Preprocessor(PreprocessingConfig(normalize="library_size")),
        objective="masked_gene_prediction",
        labels={"column": "cell_type", "categories": ["a", "b"]},
        fingerprint={"config_hash": "0" * 64, "step": 7},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    save_bundle(tmp_path / "model", make_bundle(), card="A card.\n")
    return tmp_path / "model"


@pytest.mark.parametrize("architecture", ["transformer_encoder", "gene_pooling"])
def test_what_was_saved_is_loaded_to_the_bit(tmp_path, architecture):
    bundle = make_bundle(architecture)
    save_bundle(tmp_path / "model", bundle, card="")
    loaded = load_bundle(tmp_path / "model")
    for name, weight in bundle.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    assert loaded.vocab.digest() == bundle.vocab.digest()
    assert loaded.labels == bundle.labels
    assert loaded.model_config.model_dump() == bundle.model_config.model_dump()
    assert loaded.preprocessor.to_dict() == bundle.preprocessor.to_dict()
    assert loaded.model_id == "000000000000@7"


def test_saving_what_was_loaded_gives_the_same_files(folder, tmp_path):
    save_bundle(tmp_path / "again", load_bundle(folder), card="A card.\n")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_no_file_is_a_pickle_or_an_archive(folder):
    for path in folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


def test_a_loaded_model_is_in_evaluation_mode(folder):
    assert not load_bundle(folder).model.training


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.json", "preprocessing.json"]
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} missing"):
        load_bundle(folder)


def test_damaged_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match=r"model.safetensors: damaged"):
        load_bundle(folder)


def test_weights_of_another_model_are_refused(folder, tmp_path):
    save_bundle(tmp_path / "other", make_bundle("gene_pooling"), card="")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(DataError, match="do not fit the model"):
        load_bundle(folder)


def test_a_vocabulary_of_another_model_is_refused(folder):
    GeneVocab.from_genes(GENES[:5], name="other").save(folder / "vocab.json")
    with pytest.raises(DataError, match=r"take tokenizer\.json and vocab\.json from the same folder"):
        load_bundle(folder)


def test_another_vocabulary_of_the_same_size_with_its_tokenizer_is_refused(folder, tmp_path):
    other = make_bundle()
    vocab = GeneVocab([f"h{i:02d}" for i in range(len(other.vocab.genes))], name="others")
    state = other.tokenizer.to_dict() | {"vocab_digest": vocab.digest()}
    save_tokenizer(type(other.tokenizer).from_dict(state, vocab), folder)
    with pytest.raises(DataError, match=r"the model was made for other genes, not for the \d+ tokens in vocab\.json"):
        load_bundle(folder)


def test_a_folder_may_be_named_by_a_text(folder):
    assert load_bundle(str(folder)).vocab.digest() == load_bundle(folder).vocab.digest()


def test_the_folder_of_a_run_says_where_the_model_is(folder, tmp_path):
    folder.rename(tmp_path / "model")
    with pytest.raises(DataError, match=r"is not a complete model folder: .*\. Did you mean .*/model\?"):
        load_bundle(tmp_path)


def test_a_newer_format_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(DataError, match="format 99"):
        load_bundle(folder)


def test_a_damaged_settings_file_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        load_bundle(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        load_bundle(tmp_path / "nothing")


class TestPlugins:
    CODE = """
from pathlib import Path
from scmodelforge.models import register_model
from scmodelforge.models.gene_pooling import GenePoolingModel
Path({mark!r}).touch()

@register_model({name!r})
class Own(GenePoolingModel):
    pass
"""

    def saved(self, tmp_path, name) -> tuple[Path, Path]:
        """Save a model whose code is then forgotten; return its folder and the file its import leaves."""
        from scmodelforge._registry import MODELS
        from scmodelforge.config.load import load_plugins

        mark = tmp_path / "imported"
        plugin = tmp_path / f"{name}.py"
        plugin.write_text(self.CODE.format(mark=str(mark), name=name))
        load_plugins([str(plugin)], tmp_path)
        bundle = make_bundle(name)
        bundle.plugins = [str(plugin)]
        save_bundle(tmp_path / "model", bundle, card="")
        MODELS._parts.pop(name)  # as in a process that never saw the plugin
        for module in [module for module in sys.modules if name in module]:
            del sys.modules[module]
        plugin.unlink()
        mark.unlink()
        return tmp_path / "model", mark

    def test_code_in_a_folder_is_not_run_unasked(self, tmp_path):
        folder, mark = self.saved(tmp_path, "own_untrusted")
        with pytest.raises(ConfigError, match="--trust-plugins"):
            load_bundle(folder)
        assert not mark.exists()

    def test_it_travels_with_the_folder_and_runs_when_trusted(self, tmp_path):
        folder, mark = self.saved(tmp_path, "own_trusted")
        moved = tmp_path / "elsewhere"
        shutil.move(folder, moved)
        assert load_bundle(moved, trust_plugins=True).model_config.architecture == "own_trusted"
        assert mark.exists()
