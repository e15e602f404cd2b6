"""Batches as the objectives make them, written by hand from the cells of ``dummy_batch``."""

from __future__ import annotations

import torch


def plain_cells(dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the cells with nothing hidden: ids, mask and values."""
    masked = dummy_batch["masked_positions"]
    draw = torch.Generator().manual_seed(1)
    truth = torch.rand(masked.shape, generator=draw) + 0.5
    return {
        "input_ids": torch.where(masked, dummy_batch["labels"], dummy_batch["input_ids"]),
        "attention_mask": dummy_batch["attention_mask"],
        "values": torch.where(masked, truth, dummy_batch["values"]),
    }


def next_gene_batch(dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what a causal model is trained on: at t the gene and bin of t + 1, nothing inside the prefix."""
    cells = plain_cells(dummy_batch)
    ids, mask = cells["input_ids"].clone(), cells["attention_mask"]
    ids[:, 0] = 3
    prefix_len = torch.tensor([1, 3, 6, 1])
    labels = torch.full_like(ids, -100)
    for cell in range(4):
        length = int(mask[cell].sum())
        for place in range(int(prefix_len[cell]), length):
            labels[cell, place - 1] = ids[cell, place]
    bins = torch.randint(0, 51, labels.shape, generator=torch.Generator().manual_seed(2))
    bins = bins.masked_fill(labels == -100, -100)
    return {**cells, "input_ids": ids, "labels": labels, "bin_ids": bins, "prefix_len": prefix_len}


def next_count_batch(dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what a causal model of counts is trained on: at t the gene and count of t + 1."""
    cells = next_gene_batch(dummy_batch)
    labels, mask = cells["labels"], cells["attention_mask"] != 0
    counts = torch.randint(1, 6, labels.shape, generator=torch.Generator().manual_seed(3)).float().masked_fill(~mask, 0)
    targets = counts.roll(-1, 1).masked_fill(labels == -100, 0)
    kept = {name: cells[name] for name in ("input_ids", "attention_mask", "labels")}
    return {**kept, "values": counts.masked_fill(cells["input_ids"] == 3, 0), "targets": targets}


def masked_value_batch(dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what an autoencoder is trained on: ids and values hidden, with genes and values that are asked for."""
    cells, masked = plain_cells(dummy_batch), dummy_batch["masked_positions"]
    return {
        **dummy_batch,
        "gene_ids": cells["input_ids"],
        "targets": cells["values"].masked_fill(~masked, 0.0),
    }


def batch_for(name: str, dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a training batch of a registered model."""
    makers = {
        "autoregressive_transformer": next_gene_batch,
        "masked_autoencoder": masked_value_batch,
        "transcriptformer": next_count_batch,
        "scgpt": masked_value_batch,
        "scdiva": masked_value_batch,
        "scdiva_diffusion": masked_value_batch,
    }
    return makers[name](dummy_batch) if name in makers else dummy_batch
