"""Which gene of one region a model looks at from which gene of the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.data.draws import generator

__all__ = ["GenePair", "gene_pairs"]

_NUMBERS = 16_000_000  # of attention maps that are in memory at a time


class GenePair(NamedTuple):
    """How much a gene of region i attends to a gene of region j, on average; 1 over the number of genes is chance."""

    gene_i: str
    gene_j: str
    attention: float


def gene_pairs(
    model: ConnectomeModel, data: RegionPairDataset, *, most: int = 10_000, max_pairs: int = 512, seed: int = 0
) -> list[GenePair] | None:
    """Return the pairs of genes with the most attention in the last layer, over heads and some pairs of regions.

    Parameters
    ----------
    model
        A fitted model.
    data
        Pairs of regions with its genes.
    most
        How many pairs of genes to return at most.
    max_pairs
        How many pairs of regions to draw at most.
    seed
        Base of the draw.

    Returns
    -------
    Pairs of genes, the highest first; ``None`` of a model whose regions do not attend to each other.
    """
    if not hasattr(model, "attention_maps"):
        return None
    asked: Any = model
    genes: list[str] = asked.encoder.shared_genes
    items = generator(seed, "pairs of attention maps").permutation(len(data))[:max_pairs]
    heads = int(model.arguments["nhead"])
    size = max(1, _NUMBERS // (heads * (len(genes) + 8) * len(genes)))
    total = torch.zeros(len(genes), len(genes), dtype=torch.float64)
    device = next(model.parameters()).device
    for part in np.split(items, range(size, len(items), size)):
        batch = data.batch(part)
        maps = asked.attention_maps(batch["x"].to(device), batch["coords"].to(device))
        total += maps[:, :, -len(genes) :].mean(dim=1).sum(dim=0).double().cpu()  # CLS tokens come before the genes
    mean = (total / len(items)).numpy()
    order = np.argsort(-mean, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, mean.shape)
    return [GenePair(genes[i], genes[j], float(mean[i, j])) for i, j in zip(rows, columns, strict=True)]
