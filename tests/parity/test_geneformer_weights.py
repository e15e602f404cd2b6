"""Hidden states, scores and loss are those of the official code for a checkpoint in the published form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodelforge.models.published import load_geneformer

from .golden import golden_folder, needs

FOLDER = golden_folder("geneformer") / "tiny_checkpoint"

pytestmark = needs(FOLDER)


@pytest.fixture(scope="module")
def expected():
    return np.load(FOLDER / "expected.npz")


@pytest.fixture(scope="module")
def found(expected):
    model = load_geneformer(FOLDER)
    ids, mask, labels = (torch.tensor(expected[name]) for name in ("input_ids", "attention_mask", "labels"))
    with torch.no_grad():
        return model(ids, mask, labels=labels, output_hidden_states=True, output_attentions=True)


def test_scores_and_loss(expected, found):
    is_real = expected["attention_mask"] == 1
    np.testing.assert_allclose(found.logits.numpy()[is_real], expected["logits"][is_real], rtol=1e-4, atol=1e-4)
    assert float(found.loss) == pytest.approx(float(expected["loss"]), abs=1e-5)


def test_hidden_states_of_all_layers(expected, found):
    is_real = expected["attention_mask"] == 1
    assert len(found.hidden_states) == 3
    for number, states in enumerate(found.hidden_states):
        np.testing.assert_allclose(states.numpy()[is_real], expected[f"hidden_{number}"][is_real], rtol=0, atol=1e-5)


def test_attention_maps(expected, found):
    is_real = expected["attention_mask"] == 1
    maps, wanted = (
        each.transpose(0, 2, 1, 3)[is_real] for each in (found.attentions[0].numpy(), expected["attention_0"])
    )
    np.testing.assert_allclose(maps, wanted, rtol=0, atol=1e-5)


def test_embeddings_are_means_over_tokens_or_without_special_ones(expected, found):
    states = found.hidden_states[-1].numpy()
    inside = np.arange(states.shape[1])[None] < expected["lengths"][:, None] - 1
    inside[:, 0] = False
    means = (states * inside[..., None]).sum(1) / inside.sum(1, keepdims=True)
    np.testing.assert_allclose(means, expected["cell_mean_last"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(states[:, 0], expected["cls_last"], rtol=0, atol=1e-5)
