"""Small models of small brains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scmodelforge.connectome import (
    CrossAttentionGene2VecModel,
    RegionPairDataset,
    SharedSelfAttentionGene2VecModel,
    SharedSelfAttentionModel,
    SharedSelfAttentionPoolingModel,
)
from scmodelforge.connectome.models import ConnectomeModel

CROSS, FLAT, POOLED, SINGLE = (
    CrossAttentionGene2VecModel,
    SharedSelfAttentionModel,
    SharedSelfAttentionPoolingModel,
    SharedSelfAttentionGene2VecModel,
)
MODELS: list[type[ConnectomeModel]] = [CROSS, FLAT, POOLED, SINGLE]
_SMALL = {
    "d_model": 8,
    "nhead": 2,
    "num_layers": 2,
    "deep_hidden_dims": [6],
    "batch_size": 16,
    "epochs": 2,
    "accelerator": "cpu",
}


def make(cls: Any, data: RegionPairDataset, **arguments: Any) -> Any:
    """Return a small model, in evaluation."""
    chunks = {"token_encoder_dim": 2, "encoder_output_dim": 3} if cls in (FLAT, POOLED) else {}
    return cls(2 * data.num_genes, data, **{**_SMALL, **chunks, **arguments}).eval()


def vectors(genes: list[str], width: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a vector for each gene."""
    random = np.random.default_rng(seed)
    return {gene: random.normal(size=width) for gene in genes}


def answers(model: ConnectomeModel, data: RegionPairDataset, indices: Any) -> torch.Tensor:
    """Return what a model says of some pairs."""
    batch = data.batch(indices)
    with torch.no_grad():
        return model(batch["x"], batch["coords"], batch["idx"])


def weights(model: ConnectomeModel) -> dict[str, torch.Tensor]:
    """Return a copy of all numbers of a model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
