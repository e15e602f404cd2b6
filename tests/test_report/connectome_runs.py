"""Folders of connectome runs as the command leaves them, without models."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

REGIONS = 12
NETWORKS = ["Vis", "Mot", "Vis", "Lim", "Mot", "Vis", "Lim", "Mot", "Vis", "Lim", "Mot", "Vis"]
FOLDS = [(seed, fold) for seed in (0, 1) for fold in (0, 1, 2)]
KINDS = {
    "cross_attention": ("model", "genes"),
    "bilinear": ("baseline", "genes"),
    "places_kernel": ("baseline", "coordinates"),
    "both_kernel": ("baseline", "both"),
}


def score_rows(means: dict[str, float], kinds: dict[str, tuple[str, str]] = KINDS, seed: int = 0) -> list[dict]:
    """Return a row for each predictor and fold, around the mean r of each, with values nobody can guess."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, mean in means.items():
        for of, fold in FOLDS:
            scores = [
                {"mse": float(rng.random()), "mae": float(rng.random()), "pearson_r": base + 0.05 * float(rng.random())}
                for base in (mean, mean + 0.1)
            ]
            kind, uses = kinds[name]
            rows.append({"name": name, "kind": kind, "uses": uses, "fold": fold, "seed": of, "inner": scores[0],
                         "cross": scores[1]})  # fmt: skip
    return rows


def difference(name: str, against: str, mean: float, reach: float | None = 0.05) -> dict[str, Any]:
    low, high = (None, None) if reach is None else (mean - reach, mean + reach)
    return {"name": name, "against": against, "mean": mean, "low": low, "high": high, "num_better": 4, "num_folds": 6}


def make_arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Return symmetric matrices of which about half the pairs have a prediction."""
    rng = np.random.default_rng(3)
    half = np.triu(rng.random((REGIONS, REGIONS)), 1)
    true = half + half.T
    noise = np.triu(0.2 * rng.random((REGIONS, REGIONS)), 1)
    predicted = 0.7 * true + noise + noise.T
    is_missing = np.triu(rng.random((REGIONS, REGIONS)) < 0.5, 1)
    predicted[is_missing | is_missing.T | np.eye(REGIONS, dtype=bool)] = np.nan
    arrays = {
        "true": true,
        "predicted": predicted,
        "coords": 60 * rng.normal(size=(REGIONS, 3)),
        "regions": np.array([f"region{number}" for number in range(REGIONS)]),
        "network": np.array(NETWORKS),
    }
    return {name: each for name, each in (arrays | changes).items() if each is not None}


def make_connectome_run(
    root: Path,
    *,
    rows: list[dict] | None = None,
    comparison: list[dict] | None = None,
    gene_pairs: list[tuple[str, str, float]] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    config: dict | None = None,
) -> Path:
    root.mkdir(parents=True)
    means = {"mean": 0.0, "bilinear": 0.5, "cross_attention": 0.61, "places_kernel": 0.8}
    if rows is None:
        rows = score_rows(means, {**KINDS, "mean": ("baseline", "nothing")})
        for row in rows:
            if row["name"] == "mean":
                row["inner"]["pearson_r"] = row["cross"]["pearson_r"] = None
    if comparison is None:
        comparison = [
            difference("cross_attention", "bilinear", 0.11),
            difference("cross_attention", "places_kernel", -0.19),
        ]
    settings = {
        "connectome": {
            "data": {"path": "/home/somebody/secret/atlas.npz", "target": "fc"},
            "split": {"strategy": "homotopic", "folds": 3, "seeds": [0, 1]},
        }
    }
    np.savez(root / "predictions.npz", **(make_arrays() if arrays is None else arrays))
    (root / "scores.json").write_text(json.dumps(rows))
    (root / "comparison.json").write_text(json.dumps(comparison))
    (root / "config.yaml").write_text(yaml.safe_dump(settings if config is None else config))
    (root / "record.json").write_text(json.dumps({"scmodelforge_version": "0.1.0", "data": {"dataset": "atlas"}}))
    if gene_pairs is not None:
        with (root / "gene_pairs.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("gene_i", "gene_j", "attention"), *gene_pairs])
    return root
