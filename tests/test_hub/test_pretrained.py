"""The list of published models: its schema, its names, and whether its figures fit what is built here."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from scmodelforge._errors import ConfigError
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.addresses import HubRepository, parse_address
from scmodelforge.hub.pretrained import (
    FILE,
    SCHEMA_FILE,
    PretrainedList,
    PretrainedModel,
    find_pretrained,
    get_pretrained,
    list_pretrained,
    schema_text,
)
from scmodelforge.models import TransformerEncoder, get_model
from scmodelforge.models.published.geneformer import geneformer_config
from scmodelforge.models.published.scgpt import scgpt_config
from scmodelforge.tokenizers.presets import PRESETS

MODELS = {model.name: model for model in list_pretrained()}


def of_importer(name: str) -> list[str]:
    return [model.name for model in MODELS.values() if model.importer == name]


class TestFiles:
    def test_the_schema_is_that_of_the_fields(self):
        assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()

    def test_a_plain_validator_takes_the_list_without_this_package(self):
        pytest.importorskip("jsonschema")
        code = """
import json, sys
from jsonschema import Draft202012Validator
content, schema = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:])
Draft202012Validator.check_schema(schema)
Draft202012Validator(schema).validate(content)
assert not any(name.startswith("scmodelforge") for name in sys.modules)
"""
        subprocess.run([sys.executable, "-c", code, FILE, SCHEMA_FILE], check=True)

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            (["format_version"], 2),
            (["models", 0, "name"], "Geneformer V2"),
            (["models", 0, "aliases"], ["Geneformer"]),
            (["models", 0, "num_parameters"], "104 M"),
            (["models", 0, "files"], []),
            (["models", 0, "files", 1, "sha256"], "fff5"),
            (["models", 0, "hub", "repository"], "Geneformer"),
            (["models", 0, "url"], "https://example.org"),
        ],
    )
    def test_what_is_refused_is_refused_by_a_plain_validator_too(self, where, value):
        jsonschema = pytest.importorskip("jsonschema")
        content = json.loads(FILE.read_text(encoding="utf-8"))
        *path, last = where
        inner = content
        for step in path:
            inner = inner[step]
        inner[last] = value
        with pytest.raises(ValidationError):
            PretrainedList.model_validate_json(json.dumps(content))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content, json.loads(schema_text()))

    def test_a_name_stands_for_one_model(self):
        content = json.loads(FILE.read_text(encoding="utf-8"))
        content["models"].append({**copy.deepcopy(content["models"][0]), "name": "other"})
        with pytest.raises(ValidationError, match="names that stand twice: geneformer, geneformer-v2-104m"):
            PretrainedList.model_validate(content)


class TestNames:
    @pytest.mark.parametrize("name", [name for model in MODELS.values() for name in model.names])
    @pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
    def test_each_is_found_in_any_case(self, name, change):
        assert name in get_pretrained(change(name)).names

    def test_an_unknown_one_is_answered_with_the_nearest(self):
        with pytest.raises(ConfigError) as found:
            get_pretrained("Geneformer_V2_316M")
        assert "no published model 'Geneformer_V2_316M'. Did you mean 'geneformer-v2-316m'?" in str(found.value)
        assert "There are: geneformer-v2, geneformer-v2-316m," in str(found.value)

    @pytest.mark.parametrize("name", MODELS)
    def test_places_on_the_hub_are_addresses(self, name):
        for hub in (MODELS[name].hub, MODELS[name].vocabulary.hub):
            if hub is not None:
                assert parse_address(hub.address) == HubRepository(hub.repository, hub.revision, hub.folder)
        assert PretrainedModel.model_validate(MODELS[name].model_dump()) == MODELS[name]


class TestFigures:
    @pytest.mark.parametrize("name", of_importer("geneformer"))
    def test_weights_of_geneformer_are_those_of_the_model_built_here(self, name):
        published = MODELS[name]
        sizes = published.sizes
        config = geneformer_config(
            {
                "model_type": "bert",
                "hidden_act": "relu",
                "vocab_size": published.vocabulary.num_tokens,
                "hidden_size": sizes.hidden_dim,
                "num_hidden_layers": sizes.num_layers,
                "num_attention_heads": sizes.num_heads,
                "intermediate_size": sizes.ffn_dim,
                "max_position_embeddings": sizes.max_tokens,
                "hidden_dropout_prob": 0.1,
                "attention_probs_dropout_prob": 0.1,
                "layer_norm_eps": 1e-12,
            }
        )
        with torch.device("meta"):
            model = TransformerEncoder.from_config(config)
        token_types = 2 * sizes.hidden_dim  # folded into positions here
        assert sum(weight.numel() for weight in model.parameters()) + token_types == published.num_parameters

    @pytest.mark.parametrize("name", of_importer("scgpt"))
    def test_weights_of_scgpt_are_those_of_the_model_built_here(self, name):
        published = MODELS[name]
        sizes = published.sizes
        heads = ("flag_encoder.weight", "mvc_decoder.gene2query.weight", "mvc_decoder.W.weight")
        config = scgpt_config(
            {
                "embsize": sizes.hidden_dim,
                "nheads": sizes.num_heads,
                "nlayers": sizes.num_layers,
                "d_hid": sizes.ffn_dim,
                "max_seq_len": sizes.max_tokens,
                "dropout": 0.2,
            },
            dict.fromkeys(heads, torch.empty(0)),
            vocab_size=published.vocabulary.num_tokens,
        )
        with torch.device("meta"):
            model = get_model("scgpt", config)
        assert sum(weight.numel() for weight in model.parameters()) == published.num_parameters

    @pytest.mark.parametrize("name", MODELS)
    def test_a_file_of_weights_is_as_large_as_they_are(self, name):
        """Numbers of four bytes, and what a file has beside them: names, and places of tokens."""
        published = MODELS[name]
        weights = published.files[0 if len(published.files) == 1 else 1]
        assert weights.path.endswith((".safetensors", ".bin", ".pt"))
        if weights.bytes is not None:
            assert 0 < weights.bytes - 4 * published.num_parameters < 200_000

    def test_no_two_models_have_the_same_weights(self):
        found = [each for model in MODELS.values() for each in model.checksums.values()]
        assert len(found) == len(set(found)) == len(of_importer("geneformer"))


class TestPartsOfThePackage:
    def test_importers_are_registered_or_planned(self):
        assert {model.importer for model in MODELS.values()} <= set(IMPORTERS.names())

    @pytest.mark.parametrize("name", MODELS)
    def test_the_vocabulary_is_that_of_the_tokenizers_preset(self, name):
        vocabulary = MODELS[name].vocabulary
        preset = PRESETS[vocabulary.preset]
        if not preset.published:
            assert vocabulary.hub is None
            assert {file.path for file in vocabulary.files} <= {file.path for file in MODELS[name].files}
            return
        assert vocabulary.hub.repository == preset.repository
        ours = [(f"{vocabulary.hub.folder}/{file.path}", file.sha256) for file in vocabulary.files]
        assert ours == [(f"{file.place}/{file.name}", file.sha256) for file in preset.published]


class TestWhatIsHere:
    @pytest.fixture(autouse=True)
    def caches(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "own"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def test_nothing_at_first(self):
        assert [find_pretrained(model) for model in MODELS.values()] == [None] * len(MODELS)

    @pytest.mark.parametrize("name", MODELS)
    def test_a_folder_that_has_all_files(self, name, tmp_path):
        folder = tmp_path / "own" / "pretrained" / name
        folder.mkdir(parents=True)
        for file in MODELS[name].files:
            assert find_pretrained(MODELS[name]) is None
            (folder / file.path).touch()
        assert find_pretrained(MODELS[name]) == folder

    def test_what_the_client_of_the_hub_fetched(self, tmp_path):
        model = MODELS["geneformer-v1"]
        root = tmp_path / "hub" / "models--ctheodoris--Geneformer"
        folder = root / "snapshots" / "0f3a" / model.hub.folder
        folder.mkdir(parents=True)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("0f3a")
        (folder / "config.json").touch()
        assert find_pretrained(model) is None
        (folder / "model.safetensors").touch()
        assert find_pretrained(model) == folder
        assert find_pretrained(MODELS["geneformer-v2"]) is None
