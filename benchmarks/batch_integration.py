"""What fine-tuning for batch integration does to held-out cells, beside the base model, PCA and PCA of variable genes.

Each seed splits the cells anew, pretrains a small base model on the training cells (about a minute on one core), takes
it as it is (zero-shot) and fine-tunes it. All are scored on the same held-out cells by the benchmark
``batch_integration``; components and variable genes are those of the training cells. Printed are means over the seeds
with 95 % intervals (Student's t), and of each pair the differences of fine-tuned minus the other, seed by seed.

Cells without labels (``--planted``) get both from here: clusters of their own principal components as labels, and in
half of them a batch, planted as an efficiency for each gene and a smaller depth. Such labels suit PCA.

    OMP_NUM_THREADS=1 python benchmarks/batch_integration.py pbmc_3batch_counts.h5ad
    OMP_NUM_THREADS=1 python benchmarks/batch_integration.py human_immune_559_counts.h5ad --planted
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import yaml
from scipy import stats

from scmodelforge import tl
from scmodelforge.eval.base import BenchmarkInputs, Cells
from scmodelforge.eval.baselines import pca_embedding, variable_genes
from scmodelforge.eval.benchmarks.batch_integration import BatchIntegration, BatchIntegrationConfig
from scmodelforge.workflows.pretrain import start_training

SHOWN = ("batch_correction", "bio_conservation", "total")
BASE = {
    "tokenizer": {"strategy": "binned_expression", "max_genes": 128, "n_bins": 21, "masking": {"mask_ratio": 0.3}},
    "model": {"hidden_dim": 64, "num_layers": 2, "num_heads": 4, "max_seq_len": 128, "dropout": 0.1},
    "training": {"batch_size": 32, "max_epochs": 20, "optimizer": {"lr": 2e-3}},
}
TUNED = {"training": {"batch_size": 64, "max_epochs": 12, "optimizer": {"lr": 1e-3}}}


def with_planted_batches(adata: ad.AnnData, *, num_labels: int = 6) -> ad.AnnData:
    """Return cells with labels of their own and a batch that was planted in half of them."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(2018)  # not the seed of a split: batches must not follow it
    counts = sp.csr_matrix(adata.X)
    components = pca_embedding(counts, num_train=adata.n_obs, n_components=20)
    labels = KMeans(num_labels, n_init=10, random_state=0).fit_predict(components)
    is_other = rng.random(adata.n_obs) < 0.5
    kept = np.clip(0.6 * rng.lognormal(0.0, 0.8, adata.n_vars), 0.02, 1.0)
    thinned = counts.copy().astype(np.int64)
    thinned.data = rng.binomial(thinned.data, kept[thinned.indices])
    mixed = sp.diags((~is_other).astype(float)) @ counts + sp.diags(is_other.astype(float)) @ thinned
    found = ad.AnnData(sp.csr_matrix(mixed, dtype=np.float32))
    found.var_names = adata.var_names
    found.obs_names = adata.obs_names
    found.obs["cell_type"] = np.array([f"cluster{label}" for label in labels])
    found.obs["batch"] = np.where(is_other, "planted", "as measured")
    return found[:, np.asarray(found.X.sum(axis=0)).ravel() >= 5].copy()  # genes of fewer counts say little


def train(folder: Path, name: str, sections: dict[str, Any]) -> Path:
    """Train by settings, without an evaluation, and return the run's folder."""
    sections = {**sections, "eval": {"benchmarks": []}}
    sections["output"] = {"tensorboard": False, "run_dir": str(folder / name)}
    sections["training"] = {**sections["training"], "accelerator": "cpu", "precision": "32-true"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(sections))
    start_training(path, force=True)
    return folder / name


def scores(
    adata: ad.AnnData, rows: np.ndarray, is_train: np.ndarray, reference: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Return the scores of an embedding of all cells on the held-out ones."""

    def part(chosen: np.ndarray, embeddings: np.ndarray) -> Cells:
        obs = adata.obs.iloc[chosen]
        labels, batches = obs["cell_type"].to_numpy(dtype=str), obs["batch"].to_numpy(dtype=str)
        return Cells(embeddings[chosen], labels, batches, positions=chosen)

    train_cells, held = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    inputs = BenchmarkInputs(
        dataset="cells",
        train=part(train_cells, rows),
        heldout=part(held, rows),
        label_key="cell_type",
        batch_key="batch",
        reference=reference[held],
        seed=seed,
    )
    records = BatchIntegration(BatchIntegrationConfig()).run(inputs)
    return {record.metric: float("nan") if record.value is None else record.value for record in records}


def one_seed(
    adata: ad.AnnData, folder: Path, *, seed: int, head: dict[str, Any], more: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return the scores of each embedding of a split."""
    is_train = np.random.default_rng(seed).random(adata.n_obs) < 0.6
    adata[is_train].write_h5ad(folder / "train.h5ad")
    data = {
        "paths": [str(folder / "train.h5ad")],
        "num_workers": 0,
        "batch_column": "batch",
        "label_column": "cell_type",
    }
    data["split"] = {"by": "cells", "validation_fraction": 0.1, "seed": seed}
    began = time.process_time()
    base = folder / "base"
    if not (base / "model").exists():
        pretraining = {**BASE["training"], "seed": seed}
        train(folder, "base", {**BASE, "data": {**data, "gene_vocab": "from_data"}, "training": pretraining})
    between = time.process_time()
    finetune = {"base_model": str(base), "task": "batch_integration", "head": head}
    training = {**TUNED["training"], "seed": seed, **more}
    tuned = train(folder, "tuned", {"data": data, "finetune": finetune, "training": training})
    seconds = between - began, time.process_time() - between
    print(f"seed {seed}: pretrained in {seconds[0]:.0f} s of CPU, fine-tuned in {seconds[1]:.0f} s")
    counts = sp.csr_matrix(adata.X)[np.argsort(~is_train, kind="stable")]
    back = np.argsort(np.argsort(~is_train, kind="stable"))
    genes = variable_genes(counts[: is_train.sum()], 2000 if adata.n_vars > 4000 else 500)
    pca = pca_embedding(counts, num_train=int(is_train.sum()))[back]
    hvg = pca_embedding(counts[:, genes], num_train=int(is_train.sum()))[back]
    embeddings = {"PCA": pca, "PCA of variable genes": hvg}
    for name, run in (("base, zero-shot", base), ("fine-tuned", tuned)):
        embeddings[name] = tl.embed(adata, run, copy=True).obsm["X_scmodelforge"]
    found = {name: scores(adata, rows, is_train, pca, seed=seed) for name, rows in embeddings.items()}
    for name, own in found.items():
        print(f"  {name:30}" + "".join(f"{own[metric]:20.3f}" for metric in SHOWN), flush=True)
    return found


def interval(values: list[float]) -> str:
    """Return mean and half the width of the 95 % interval of the mean."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    spread = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ±{spread:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--planted", action="store_true", help="plant batches; clusters are the labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--head", type=yaml.safe_load, default={}, help="settings of finetune.head, as YAML")
    parser.add_argument(
        "--training", type=yaml.safe_load, default={}, help="settings of the fine-tuning's training, as YAML"
    )
    parser.add_argument("--keep", type=Path, help="folder that keeps the runs; a base model that is there is taken")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    adata = ad.read_h5ad(given.data)
    if given.planted:
        adata = with_planted_batches(adata)
    found = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if given.keep is None else given.keep / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            found.append(one_seed(adata, folder, seed=seed, head=given.head, more=given.training))
    print(f"{given.data.name}: {adata.n_obs:,} cells, {adata.obs['batch'].nunique()} batches, seeds {given.seeds}")
    print(f"{'':32}" + "".join(f"{name:>20}" for name in SHOWN))
    for name in found[0]:
        print(f"{name:32}" + "".join(f"{interval([each[name][metric] for each in found]):>20}" for metric in SHOWN))
    for name in found[0]:
        if name != "fine-tuned":
            gains = {m: [each["fine-tuned"][m] - each[name][m] for each in found] for m in SHOWN}
            print(f"{'fine-tuned - ' + name:32}" + "".join(f"{interval(gains[metric]):>20}" for metric in SHOWN))


if __name__ == "__main__":
    main()
