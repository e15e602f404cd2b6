"""Tiny models in the forms in which others publish theirs, with all that an importer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.test_models.test_published import test_geneformer, test_scgpt

__all__ = ["GENES", "MEDIANS", "TOKENS", "bundle_batch", "write_geneformer", "write_scgpt"]

GENES = [f"ENSG{number:011d}" for number in range(1, 20)]
TOKENS = {token: number for number, token in enumerate(["<pad>", "<mask>", "<cls>", "<eos>", *GENES])}
MEDIANS = {gene: 0.5 + 0.3 * number for number, gene in enumerate(GENES)}


def write_geneformer(
    folder: Path, weights: dict[str, torch.Tensor] | None = None, *, with_dictionaries: bool = True, **settings: Any
) -> Path:
    """Write a Geneformer of two layers with 23 tokens; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if with_dictionaries:
        (folder / "token_dictionary.json").write_text(json.dumps(TOKENS))
        (folder / "gene_median_dictionary.json").write_text(json.dumps(MEDIANS))
    return test_geneformer.write(folder, test_geneformer.published() if weights is None else weights, **settings)


def write_scgpt(folder: Path, weights: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
    """Write an scGPT of two layers with 23 tokens; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return test_scgpt.write(folder, test_scgpt.published() if weights is None else weights, **settings)


def bundle_batch(bundle: Any, cells: int = 3) -> dict[str, torch.Tensor]:
    """Return cells as a model's tokenizer makes them of random counts of its genes."""
    import numpy as np

    counts = np.random.default_rng(0).poisson(1.0, size=(cells, len(bundle.vocab.genes))).astype(np.float32)
    counts[:, 0] += 1  # no cell is empty
    tokens = [bundle.tokenizer.tokenize(row, bundle.vocab.genes) for row in counts]
    names = ("input_ids", "attention_mask", "values")
    fill = {"input_ids": bundle.vocab.pad_id, "attention_mask": 0, "values": 0.0}
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [torch.as_tensor(cell[name]) for cell in tokens], batch_first=True, padding_value=fill[name]
        )
        for name in names
    }
