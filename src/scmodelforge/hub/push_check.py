"""Whether two models are the same: weights to the bit, embeddings of some cells, and a score made of these.

The cells are drawn, always the same for a vocabulary: 32 of four kinds, each with genes of its own that it expresses
most. Nothing is needed but the model, and no cell of anyone leaves the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scmodelforge.data.draws import cell_keys, generator
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.embed import embed_cells
from scmodelforge.eval.neighbors import nearest_neighbors
from scmodelforge.hub.bundle import Bundle
from scmodelforge.objectives.collate import collate_for_encoding

__all__ = ["Trial", "differences", "draw_cells", "try_model"]

_KINDS, _PER_KIND, _MOST_GENES, _NEIGHBOURS = 4, 8, 128, 3
_OWN_SHARE, _OWN_LEVEL, _OTHER_LEVEL = 0.75, 20.0, 2.0


@dataclass(frozen=True)
class Trial:
    """What a model makes of the drawn cells.

    Attributes
    ----------
    embeddings
        Shape (32, H), float32.
    score
        Share of the three nearest neighbours of each cell that are of its kind.
    """

    embeddings: np.ndarray
    score: float


def try_model(bundle: Bundle) -> Trial:
    """Embed the drawn cells on the CPU and score the embeddings.

    Raises
    ------
    DataError
        If the model gives NaN.
    """
    block = draw_cells(bundle.vocab)
    keys = cell_keys(0, block.positions)
    tokens = bundle.tokenizer.bind(block.panel).encode(_prepared(bundle, block), keys)
    batch = collate_for_encoding(tokens, pad_id=bundle.vocab.pad_id)
    device = next(bundle.model.parameters()).device
    rows = embed_cells(bundle.model, [batch], positions=block.positions, device=device)
    near = nearest_neighbors(rows, _NEIGHBOURS + 1).indices[:, 1:]
    return Trial(rows, float((near % _KINDS == block.positions[:, None] % _KINDS).mean()))


def draw_cells(vocab: GeneVocab) -> CellBlock:
    """Return 32 cells of counts, of kind 0 to 3 by position, over at most 128 genes of a vocabulary."""
    draw = generator(0, "cells of a push")
    genes = np.asarray(vocab.genes, dtype=object)
    chosen = np.sort(draw.permutation(len(genes))[:_MOST_GENES])
    num_cells, num_genes = _KINDS * _PER_KIND, len(chosen)
    is_own = np.arange(num_cells)[:, None] % _KINDS == np.arange(num_genes)[None, :] % _KINDS
    is_expressed = draw.random((num_cells, num_genes)) < np.where(is_own, _OWN_SHARE, 1 - _OWN_SHARE)
    is_expressed[:, 0] = True  # no cell is empty
    counts = 1 + draw.poisson(np.where(is_own, _OWN_LEVEL, _OTHER_LEVEL))
    rows, columns = np.nonzero(is_expressed)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_cells))]).astype(np.int64)
    panel = Panel(genes[chosen], "drawn cells")
    data = counts[rows, columns].astype(np.float32)
    return CellBlock(data, columns.astype(np.int32), indptr, panel, np.arange(num_cells))


def differences(own: Bundle, other: Bundle, trial: Trial) -> list[str]:
    """Return in words what of another model is not as it is here; nothing if it is the same model.

    Parameters
    ----------
    own, other
        The models. The other one is tried.
    trial
        What the own one made of the drawn cells.
    """
    ours, theirs = _weights(own), _weights(other)
    found = [name for name, weight in ours.items() if not _is_same(weight, theirs.get(name))]
    found += sorted(theirs.keys() - ours.keys())
    lines = [f"{len(found):,} weights ({found[0]}, ...)"] if found else []
    parts = {
        "vocabulary": (own.vocab.digest(), other.vocab.digest()),
        "tokenizer": (own.tokenizer.to_dict(), other.tokenizer.to_dict()),
        "preprocessing": (own.preprocessor.to_dict(), other.preprocessor.to_dict()),
        "labels": (own.labels, other.labels),
    }
    lines += [name for name, (one, two) in parts.items() if one != two]
    again = try_model(other)
    if again.embeddings.shape != trial.embeddings.shape:
        lines.append(f"embeddings (of width {again.embeddings.shape[1]}, not {trial.embeddings.shape[1]})")
    elif not np.array_equal(again.embeddings, trial.embeddings):
        furthest = np.abs(again.embeddings - trial.embeddings).max()
        lines.append(f"embeddings of the drawn cells (by up to {furthest:.3g})")
    if again.score != trial.score:
        lines.append(f"neighbours of the same kind ({again.score:.4f}, not {trial.score:.4f})")
    return lines


def _prepared(bundle: Bundle, block: CellBlock) -> CellBlock:
    preprocessor = bundle.preprocessor
    if preprocessor.config.normalize == "scran":  # factors are of a source of cells; here totals serve
        totals = block.totals()
        preprocessor = Preprocessor(preprocessor.config, factors=(totals / totals.mean()).astype(np.float32))
    return preprocessor(block)


def _weights(bundle: Bundle) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in bundle.model.state_dict().items()}


def _is_same(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Tell whether two tensors are the same to the bit, NaN and signs of zeros included."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8))
