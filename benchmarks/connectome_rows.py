"""The neural models of the table of real regions, row by row: their settings, and how they are fitted on a fold."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge.connectome import ConnectomeModel, RegionPairDataset, RegionSplit, get_connectome_model
from scmodelforge.connectome.baselines.search import best_candidate
from scmodelforge.connectome.models.predicting import predict_pairs

#: Few genes, small width: what a CPU trains in a minute.
PRESET: dict[str, Any] = {
    "d_model": 32,
    "num_layers": 1,
    "deep_hidden_dims": [64],
    "transformer_dropout": 0.0,
    "dropout_rate": 0.0,
    "learning_rate": 3e-3,
    "cosine_lr": True,
    "batch_size": 256,
    "bidirectional": True,
    "accelerator": "cpu",
}
CROSS = "cross_attention_gene2vec"
SMALL_STEPS: dict[str, Any] = {"batch_size": 64, "learning_rate": 1e-3}
DROPOUT: dict[str, Any] = {"transformer_dropout": 0.5, "dropout_rate": 0.5}
#: Few genes and few bins leave little to learn regions by.
CROSS_REAL: dict[str, Any] = {"batch_size": 64, "num_layers": 2, "weight_decay": 0.5, "expression_bins": 3}
PLACES: dict[str, Any] = {"cls_init": "spatial", "pooling_mode": "cls", "deep_hidden_dims": [128, 64]}
#: Products of the codes of both regions in place of layers on both; all pairs in one step.
PRODUCTS: dict[str, Any] = {
    "bilinear": True,
    "deep_hidden_dims": [],
    "gene_dropout": 0.5,
    "transformer_dropout": 0.2,
    "use_alibi": False,
    "weight_decay": 0.1,
    "batch_size": 4096,
    "epochs": 400,
}
ONE_TOKEN: dict[str, Any] = {"token_encoder_dim": 810, "encoder_output_dim": 32, "d_model": 64}
PLACE_TERM: dict[str, Any] = {"place_dim": 64, "gene_dropout": 0.8, "epochs": 150}
#: Candidates of rows that choose as the baselines do: by the error on folds of regions inside each training set.
CHOSEN: dict[str, tuple[dict[str, Any], ...]] = {
    "products, chosen inside training": (
        {"gene_dropout": 0.5, "epochs": 150},
        {"gene_dropout": 0.5, "epochs": 400},
        {"gene_dropout": 0.8, "epochs": 150},
        {"gene_dropout": 0.8, "epochs": 300},
    ),
    "products, places, chosen inside training": (
        {"place_dim": 32},
        {"place_dim": 64},
        {"place_dim": 64, "epochs": 300},
    ),
}
INNER_FOLDS = 3
#: Name of a row: the model, its arguments beside the preset, how many genes it takes, whether it knows places. They
#: were chosen by hand, of a dozen settings each, on folds of seed 100 or drawn likewise.
MODELS: dict[str, tuple[str, dict[str, Any], int | None, bool]] = {
    "cross attention, genes": (CROSS, {**CROSS_REAL, "learning_rate": 1e-3, "epochs": 12}, 24, False),
    "cross attention, genes + places": (CROSS, {**CROSS_REAL, **PLACES, "expression_bins": 2, "epochs": 16}, 8, True),
    "shared self-attention": (
        "shared_self_attention",
        {**SMALL_STEPS, **DROPOUT, "token_encoder_dim": 81, "encoder_output_dim": 4, "use_alibi": False, "epochs": 10},
        None,
        False,
    ),
    "shared self-attention, products": (
        "shared_self_attention",
        {**PRODUCTS, "token_encoder_dim": 162, "encoder_output_dim": 8},
        None,
        False,
    ),
    "one token of all genes, products": ("shared_self_attention", {**PRODUCTS, **ONE_TOKEN}, None, False),
    "one token of all genes, products, places": (
        "shared_self_attention",
        {**PRODUCTS, **ONE_TOKEN, **PLACE_TERM},
        None,
        True,
    ),
    "products, chosen inside training": ("shared_self_attention", {**PRODUCTS, **ONE_TOKEN}, None, False),
    "products, places, chosen inside training": (
        "shared_self_attention",
        {**PRODUCTS, **ONE_TOKEN, **PLACE_TERM},
        None,
        True,
    ),
    "shared self-attention, pooling": (
        "shared_self_attention_pooling",
        {**SMALL_STEPS, **DROPOUT, "batch_size": 128, "token_encoder_dim": 81, "use_alibi": False, "epochs": 16},
        None,
        False,
    ),
    "shared self-attention, single genes": (
        "shared_self_attention_gene2vec",
        {**SMALL_STEPS, **DROPOUT, "binning": "quantile", "epochs": 8},
        32,
        False,
    ),
}


def fitted_row(
    name: str, data: RegionPairDataset, split: RegionSplit, seed: int
) -> tuple[ConnectomeModel, RegionPairDataset]:
    """Fit the model of a row on the training pairs of a split; return it, and the pairs with the genes it takes."""
    kind, arguments, num_genes, _ = MODELS[name]
    taken = data if num_genes is None else _most_variable(data, split.train_regions, num_genes)

    def fitted(pairs: np.ndarray, **others: Any) -> ConnectomeModel:
        model = get_connectome_model(kind)(
            2 * taken.num_genes, taken, **{**PRESET, **arguments, "seed": seed, **others}
        )
        model.fit(taken, pairs, [], verbose=False)
        return model

    candidates = CHOSEN.get(name)
    if candidates is None:
        return fitted(split.train), taken

    def predict_all(train: np.ndarray, held: np.ndarray) -> dict[int, np.ndarray]:
        return {
            number: predict_pairs(fitted(train, **candidate), taken, held)
            for number, candidate in enumerate(candidates)
        }

    best = best_candidate(taken, split.train, predict_all, 0, seed=seed, num_folds=INNER_FOLDS)
    print(f"chosen: {candidates[best]}")
    return fitted(split.train, **candidates[best]), taken


def _most_variable(data: RegionPairDataset, regions: np.ndarray, count: int) -> RegionPairDataset:
    """Return the same pairs with the genes that vary most over some regions."""
    columns = np.sort(np.argsort(-data.X[regions].var(dim=0).numpy(), kind="stable")[:count])
    genes = [data.valid_genes[column] for column in columns]
    labels = (data.valid2true_mapping, data.dataset, data.parcellation, genes)
    return RegionPairDataset(data.X[:, columns], data.Y, data.coords, *labels)
