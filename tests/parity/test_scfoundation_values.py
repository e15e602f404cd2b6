"""The mixture of value bins against scFoundation's, from a tiny model made with its official classes (d09626a5)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scmodelforge.models.components import AutoBinEmbedding

GOLDEN = Path(os.environ.get("SCMODELFORGE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "scfoundation"

pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the expected outputs of the official code are not here: set SCMODELFORGE_GOLDEN"
)


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "tiny_io.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return torch.load(GOLDEN / "tiny_state_dict.pt", weights_only=True)


@pytest.fixture(scope="module")
def layer(official) -> AutoBinEmbedding:
    """Return our layer with the official weights."""
    own = {
        "to_bins.weight": "mlp.weight",
        "to_bins.bias": "mlp.bias",
        "between_bins.weight": "mlp2.weight",
        "between_bins.bias": "mlp2.bias",
        "bins.weight": "emb.weight",
    }
    weights = {name: official[f"token_emb.{theirs}"] for name, theirs in own.items()}
    weights["hidden_vector"] = official["token_emb.emb_mask.weight"][0]
    weights["padding_vector"] = official["token_emb.emb_pad.weight"][0]
    layer = AutoBinEmbedding(32, 10, alpha=1.0)
    layer.load_state_dict(weights)
    return layer.eval()


def test_weights_of_the_bins_are_the_official_ones(layer, expected):
    found = layer.weights(expected["inputs"][:, :8])
    assert torch.allclose(found, expected["autobin_weights_first8"], atol=1e-5)


def test_embeddings_of_values_are_the_official_ones(layer, expected):
    found = layer(expected["inputs"][:, :8])
    assert torch.allclose(found, expected["autobin_embedding_first8"], atol=1e-5)
    assert found.std() > 0.01


def test_hidden_and_padding_vectors_are_the_official_ones(layer, official):
    everywhere, nowhere = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.bool)
    values = torch.tensor([[0.5, 3.0]])
    assert torch.equal(layer(values, everywhere, nowhere)[0, 0], official["token_emb.emb_mask.weight"][0])
    assert torch.equal(layer(values, nowhere, everywhere)[0, 1], official["token_emb.emb_pad.weight"][0])
