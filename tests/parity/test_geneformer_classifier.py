"""Scores of classes are those of the official code, for a classifier in the published form, from folder to folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scmodelforge.hub.bundle import load_bundle, save_bundle
from scmodelforge.hub.importers.base import find_importer
from scmodelforge.models.published import load_geneformer_classifier
from scmodelforge.models.published.geneformer import load_geneformer

from .golden import golden_folder, needs

TINY = golden_folder("geneformer") / "tiny_checkpoint"
FOLDER = TINY / "cell_classifier"

pytestmark = needs(TINY)


@pytest.fixture(scope="module")
def inputs():
    found = np.load(TINY / "expected.npz")
    return tuple(torch.tensor(found[name]) for name in ("input_ids", "attention_mask"))


@pytest.fixture(scope="module")
def expected():
    return np.load(FOLDER / "expected.npz")["class_logits"]


@pytest.fixture(scope="module")
def imported():
    name, importer = find_importer(FOLDER)
    assert name == "geneformer-classifier"
    return importer.load(FOLDER, dictionaries=TINY)


def scores(model, inputs) -> np.ndarray:
    with torch.no_grad():
        return model.score_cell_types(*inputs).numpy()


def test_weights_alone(inputs, expected):
    np.testing.assert_allclose(scores(load_geneformer_classifier(FOLDER), inputs), expected, rtol=1e-4, atol=1e-4)


def test_through_the_importer_and_a_model_folder(imported, inputs, expected, tmp_path):
    bundle = imported.bundle
    first = scores(bundle.model, inputs)
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1  # they say something
    save_bundle(tmp_path, bundle, card="a card")
    again = load_bundle(tmp_path)
    assert (scores(again.model, inputs) == first).all()
    states = bundle.model.state_dict(), again.model.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert again.labels == {"column": "cell_type", "categories": [f"LABEL_{number}" for number in range(5)]}
    assert "hidden_dim" not in json.loads((tmp_path / "config.json").read_text())["model"]


def test_the_body_is_that_of_the_model_it_was_made_of(imported, inputs):
    """The golden classifier has the encoder of the golden model."""
    with torch.no_grad():
        model = load_geneformer(TINY)
        states = model(*inputs, output_hidden_states=True).hidden_states[-1]
        found = imported.bundle.model(*inputs, output_hidden_states=True).hidden_states[-1]
    real = inputs[1] == 1
    assert torch.allclose(found[real], states[real], atol=1e-5)


def test_cells_are_embedded_as_by_the_official_code(imported, inputs):
    official = np.load(TINY / "expected.npz")["cell_mean_second_to_last"]
    with torch.no_grad():
        np.testing.assert_allclose(imported.bundle.model.encode(*inputs).numpy(), official, rtol=0, atol=1e-5)
