"""A head on a model there is: the weights stay, embeddings too, and what comes out is a model like any."""

from __future__ import annotations

import json

import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import MODELS
from scmodelforge.hub import extend_vocabulary, fine_tuned_from, load_bundle, save_bundle
from scmodelforge.models.fine_tuned import CellTypeHeadConfig, FineTuneModel
from tests.conftest import OPTIONAL_MODELS

from .test_extend import NEW, _vectors, make_bundle  # noqa: F401 - a fixture

TYPES = ["B", "T", "NK"]
BATCH = {
    "input_ids": torch.tensor([[3, 5, 7, 9], [3, 6, 8, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "values": torch.tensor([[0.0, 1.0, 0.5, 0.2], [0.0, 0.3, 0.9, 0.0]]),
}


@pytest.mark.parametrize("architecture", sorted({*MODELS.names()} - OPTIONAL_MODELS))
def test_weights_and_embeddings_are_those_of_the_model(architecture):
    bundle = make_bundle(architecture)
    before = {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}
    tuned = fine_tuned_from(bundle, TYPES)
    source = bundle.model.backbone if isinstance(bundle.model, FineTuneModel) else bundle.model
    kept = tuned.model.backbone.state_dict()
    assert kept
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in kept.items())
    with torch.no_grad():
        assert torch.equal(tuned.model.encode(**BATCH), bundle.model.encode(**BATCH))
        assert tuned.model.score_cell_types(**BATCH).shape == (2, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bundle.model.state_dict().items())


def test_it_is_saved_loaded_and_extended_like_any(tmp_path):
    tuned = fine_tuned_from(make_bundle("transformer_encoder", "gene_embedding"), TYPES, column="type")
    save_bundle(tmp_path / "tuned", tuned, card="a card")
    again = load_bundle(tmp_path / "tuned")
    with torch.no_grad():
        scores = tuned.model.score_cell_types(**BATCH)
        assert torch.equal(again.model.score_cell_types(**BATCH), scores)
        assert torch.equal(extend_vocabulary(again, NEW).model.score_cell_types(**BATCH), scores)
    assert again.labels == {"column": "type", "categories": TYPES}
    assert again.objective == "cell_type_annotation"
    assert again.fingerprint["fine_tuned_from"] == make_bundle().model_id
    settings = json.loads((tmp_path / "tuned" / "config.json").read_text())["model"]
    assert settings["backbone"]["hidden_dim"] == 16
    assert "hidden_dim" not in settings


def test_the_head_is_as_asked_for_and_its_weights_depend_on_the_seed():
    bundle = make_bundle()
    head = CellTypeHeadConfig(pooling="first", hidden_layers=0)
    one, two, other = (fine_tuned_from(bundle, TYPES, head=head, seed=seed).model.head for seed in (1, 1, 2))
    assert len(one.layers) == 0
    assert torch.equal(one.decoder.weight, two.decoder.weight)
    assert not torch.equal(one.decoder.weight, other.decoder.weight)


def test_it_is_another_model_than_its_base_and_than_others_of_it():
    bundle = make_bundle()
    bundle.origin = "hf://me/base@0f3a"
    tuned = fine_tuned_from(bundle, TYPES)
    others = [fine_tuned_from(bundle, TYPES[::-1]), fine_tuned_from(bundle, TYPES, seed=1)]
    head = CellTypeHeadConfig(pooling="first", hidden_layers=0)
    others += [fine_tuned_from(bundle, TYPES, head=head), fine_tuned_from(tuned, TYPES)]
    ids = [each.model_id for each in (bundle, tuned, *others)]
    assert len({*ids}) == len(ids)
    assert fine_tuned_from(bundle, TYPES).model_id == tuned.model_id
    assert tuned.fingerprint["fine_tuned_from"] == bundle.model_id
    assert tuned.origin == ""


@pytest.mark.parametrize("types", [["B"], ["B", "T", "B"], []])
def test_too_few_types_or_one_twice(types):
    with pytest.raises(DataError, match=r"cell types, of which . differ .*; give two or more, each once"):
        fine_tuned_from(make_bundle(), types)


def test_weights_that_are_not_those_of_the_settings():
    bundle = make_bundle()
    bundle.model.encoder.layers.append(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"other weights than its settings make \(encoder.layers.2"):
        fine_tuned_from(bundle, TYPES)
