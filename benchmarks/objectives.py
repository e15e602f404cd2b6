"""Does every objective learn what it claims? Each is trained on real cells and held against what needs no model.

For each data set, objective and seed a model is trained as `scmodelforge train` does it, for a fixed number of steps,
and scored as it is then on held-out cells, through the objective's own batches:

    masked_gene_prediction   frequency of genes among the training cells; strict: over those the cell does not show
    next_gene_prediction     frequency of genes over those not named yet; bins: mean of each gene, distribution of each
                             gene's bins, and strict: that times how often the cell has shown each bin, since equal
                             counts of a cell have equal bins
    next_gene_prediction_set   the same of gene_target: set, scored as next_gene_prediction is
    masked_value_prediction  mean of each gene under the same draws, zeros asked for included

    python benchmarks/objectives.py human_immune_559_counts.h5ad pbmc_3batch_counts.h5ad --label cell_type

The linear probe of data that have the label is reported for the trained and the untrained model and PCA, whoever wins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import yaml

OBJECTIVES = {
    "masked_gene_prediction": {
        "tokenizer": {"strategy": "rank_value"},
        "model": {"architecture": "transformer_encoder", "use_expression_values": False},
    },
    "next_gene_prediction": {
        "tokenizer": {"strategy": "binned_expression"},
        "model": {"architecture": "autoregressive_transformer", "expression_loss_weight": 0.3},
    },
    "next_gene_prediction_set": {
        "tokenizer": {"strategy": "binned_expression"},
        "model": {"architecture": "autoregressive_transformer", "expression_loss_weight": 0.3, "gene_target": "set"},
    },
    "masked_value_prediction": {
        "tokenizer": {"strategy": "rank_value", "masking": {"mask_ratio": 0.5}},
        "model": {"architecture": "masked_autoencoder", "decoder_layers": 1, "decoder_dim": 48},
    },
}


def settings(data: Path, objective: str, seed: int, run: Path, options: argparse.Namespace) -> dict:
    own = OBJECTIVES[objective]
    labels = {"label_column": options.label} if options.label in columns(data) else {}
    config = {
        "data": {
            "paths": [str(data)],
            "gene_vocab": common_genes(data, options.genes),
            "split": {"by": "cells", "validation_fraction": 0.2, "seed": seed},
            "num_workers": 0,
            **labels,
        },
        "tokenizer": {"max_genes": options.length, **own["tokenizer"]},
        "model": {
            "hidden_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "dropout": 0.1,
            "max_seq_len": 2 * options.length,
            "pooling": "mean",
            **own["model"],
        },
        "training": {
            "batch_size": 32,
            "max_epochs": 4,
            "steps_per_epoch": options.steps // 4,
            "optimizer": {"lr": options.lr},
            "scheduler": {"warmup_steps": 30},
            "seed": seed,
            "accelerator": "cpu",
        },
        "output": {"run_dir": str(run), "tensorboard": False, "save_top_k": 0},
    }
    if labels:
        config["eval"] = {"every_n_epochs": 1000, "benchmarks": ["cell_type_annotation"], "seed": seed}
    return config


@cache
def common_genes(data: Path, number: int) -> list[str]:
    """Return the genes that most cells express: of rare ones there is nothing to learn from so few cells."""
    import anndata as ad

    adata = ad.read_h5ad(data)
    cells = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    genes = list(dict.fromkeys(adata.var_names[np.argsort(-cells, kind="stable")]))
    return sorted(genes[:number])


def columns(data: Path) -> set[str]:
    import h5py

    with h5py.File(data) as file:
        return set(file["obs"])


def work(config: Path) -> None:
    """Train one model and print its scores; runs in a process of its own."""
    from scmodelforge.workflows.pretrain import start_training

    began = time.process_time()
    result = start_training(config)
    assert result is not None
    scores = held_out_scores(result.folder.root)
    probes = {
        record.representation: record.value for record in result.records if record.metric == "accuracy_linear_probe"
    }
    seconds = time.process_time() - began
    print("RESULT " + json.dumps({"scores": scores, "probes": probes, "cpu_seconds": seconds}))


def held_out_scores(root: Path) -> dict[str, list[float]]:
    """Return for each quantity the held-out score of the model and of its baseline, lower being better."""
    import torch

    from scmodelforge.hub.bundle import load_bundle
    from scmodelforge.objectives import get_objective
    from scmodelforge.workflows.prepare import Readable, open_source, sequential_loader
    from scmodelforge.workflows.runfolder import RunFolder

    folder, config, split, _ = RunFolder.read(root)
    bundle = load_bundle(folder.model)
    collate = get_objective(
        bundle.objective, vocab=bundle.vocab, tokenizer_config=bundle.tokenizer.config, model_config=bundle.model_config
    )
    source = open_source(config.data)

    def batches(positions: np.ndarray, seed: int) -> list[dict]:
        readable = Readable(source, bundle.tokenizer, bundle.preprocessor)
        loader = sequential_loader(readable, positions, collate=collate, config=config.data, batch_size=32, seed=seed)
        with loader:
            return [batch for group in loader.one_pass() for batch in group]

    train = [batch for seed in range(5) for batch in batches(split.train, 1000 + seed)]
    held_out = batches(split.validation, 7)
    score = {
        "masked_gene_prediction": masked_genes,
        "next_gene_prediction": next_genes,
        "masked_value_prediction": masked_values,
    }[bundle.objective]
    with torch.no_grad():
        return score(bundle.model.eval(), train, held_out, len(bundle.vocab))


def tensors(batch: dict) -> dict:
    import torch

    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def gene_counts(train: list[dict], vocab_size: int) -> np.ndarray:
    """Return how often each token stands in the training cells; 0.5 for those never seen, 0 for special tokens."""
    found = np.zeros(vocab_size)
    for batch in train:
        ids = batch["gene_ids"][batch["attention_mask"] != 0]
        found += np.bincount(ids.numpy(), minlength=vocab_size)
    found = np.maximum(found, 0.5)
    found[:4] = 0
    return found


def masked_genes(model, train, held_out, vocab_size) -> dict[str, list[float]]:
    frequency = gene_counts(train, vocab_size)
    log_p = np.log(np.maximum(frequency, 1e-30) / frequency.sum())
    own, base, strict, count = 0.0, 0.0, 0.0, 0
    for batch in held_out:
        cells, places = (index.numpy() for index in (batch["labels"] != -100).nonzero(as_tuple=True))
        labels = batch["labels"].numpy()[cells, places]
        own += float(model(**tensors(batch), return_logits=False).loss) * len(labels)
        base -= log_p[labels].sum()
        left = np.tile(frequency, (len(batch["labels"]), 1))
        shown = np.where((batch["labels"] == -100).numpy(), batch["gene_ids"].numpy(), 0)
        np.put_along_axis(left, shown, 0.0, axis=1)
        strict -= np.log(frequency[labels] / left.sum(1)[cells]).sum()
        count += len(labels)
    return {"masked gene, nats": [own / count, base / count], "  strict": [own / count, strict / count]}


def next_genes(model, train, held_out, vocab_size) -> dict[str, list[float]]:
    import torch

    frequency = torch.from_numpy(gene_counts(train, vocab_size))
    histogram = bin_histogram(train, vocab_size, model.n_bins)
    mean_bin = (histogram * np.arange(model.n_bins)).sum(1)
    sums, floor = np.zeros(8), 0.0
    for batch in held_out:
        inputs, read = tensors(batch), []
        hook = model.gene_head.register_forward_pre_hook(lambda module, inputs, read=read: read.append(inputs[0]))
        output = model(**inputs)
        hook.remove()
        cells, places = torch.nonzero(batch["labels"] != -100, as_tuple=True)
        labels, bins = batch["labels"][cells, places], batch["bin_ids"][cells, places]
        own = torch.nn.functional.cross_entropy(output.logits[cells, places], labels, reduction="sum")
        named = torch.where(
            torch.arange(inputs["input_ids"].shape[1]) <= places[:, None], inputs["input_ids"][cells], 0
        )
        left = frequency.repeat(len(labels), 1).scatter(1, named, 0.0)
        base = -(left.gather(1, labels[:, None])[:, 0] / left.sum(1)).log().sum()
        sums[:3] += [float(own), float(base), len(labels)]
        probabilities = model.score_bins(read[0][cells, places], labels).double().softmax(1).numpy()
        sums[3] -= np.log(probabilities[np.arange(len(bins)), bins]).sum()
        sums[4] -= np.log(histogram[labels, bins]).sum()
        product = histogram[labels] * (bins_shown(batch, model.n_bins)[cells, places] + 0.1)
        sums[7] -= np.log((product / product.sum(1, keepdims=True))[np.arange(len(bins)), bins]).sum()
        floor += batch["floors"]["next_gene"] * len(labels)
        expected = (probabilities * np.arange(model.n_bins)).sum(1)
        sums[5] += np.square(expected - bins.numpy()).sum()
        sums[6] += np.square(mean_bin[labels] - bins.numpy()).sum()
    count = sums[2]
    return {
        f"next gene, nats (>= {floor / count:.2f})": [sums[0] / count, sums[1] / count],
        "bin, squared error": [sums[5] / count, sums[6] / count],
        "bin, nats": [sums[3] / count, sums[4] / count],
        "  strict ": [sums[3] / count, sums[7] / count],
    }


def bins_shown(batch, n_bins) -> np.ndarray:
    """Return how often each bin stands up to each position of a cell, shape (B, S, K)."""
    shown = np.rint(batch["values"].numpy() * (n_bins - 1)).astype(np.int64)
    found = np.eye(n_bins)[shown]
    found[..., 0] = 0  # special tokens and padding
    return np.cumsum(found, axis=1)


def bin_histogram(train, vocab_size, n_bins) -> np.ndarray:
    """Return the distribution of each gene's bins over the training cells, shape (V, K), smoothed a little."""
    found = np.zeros((vocab_size, n_bins))
    for batch in train:
        is_target = batch["labels"] != -100
        np.add.at(found, (batch["labels"][is_target].numpy(), batch["bin_ids"][is_target].numpy()), 1)
    found /= 5  # the training cells were passed over five times
    overall = found.sum(0) + 0.5
    return (found + 2 * overall / overall.sum()) / (found.sum(1, keepdims=True) + 2)


def masked_values(model, train, held_out, vocab_size) -> dict[str, list[float]]:
    sums, counts = np.zeros(vocab_size), np.zeros(vocab_size)
    for batch in train:
        asked = batch["masked_positions"]
        genes = batch["gene_ids"][asked].numpy()
        sums += np.bincount(genes, weights=batch["targets"][asked].numpy(), minlength=vocab_size)
        counts += np.bincount(genes, minlength=vocab_size)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / counts.sum())
    own, base, count = 0.0, 0.0, 0
    for batch in held_out:
        asked = batch["masked_positions"]
        number = int(asked.sum())
        own += float(model(**tensors(batch), return_logits=False).loss) * number
        base += np.square(means[batch["gene_ids"][asked].numpy()] - batch["targets"][asked].numpy()).sum()
        count += number
    return {"masked value, squared error": [own / count, base / count]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help=".h5ad files with counts")
    parser.add_argument("--label", default="cell_type", help="obs column of the linear probe, where a file has it")
    parser.add_argument("--objective", choices=list(OBJECTIVES), nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--genes", type=int, default=1000, help="genes, those most cells express")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a cell")
    parser.add_argument("--steps", type=int, default=272)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at once, one thread each")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work)
        return
    began = time.perf_counter()
    jobs = [(d, o, s) for d in options.data for o in options.objective for s in range(options.seeds)]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.workers) as pool:
        results = dict(zip(jobs, pool.map(lambda job: one(*job, Path(name), options), jobs), strict=True))
    show(results, options)
    print(f"{time.perf_counter() - began:.0f} s, {options.workers} at once, 1 thread each, float32")


def one(data: Path, objective: str, seed: int, folder: Path, options: argparse.Namespace) -> dict:
    config = folder / f"{data.stem}_{objective}_{seed}.yaml"
    config.write_text(yaml.safe_dump(settings(data.absolute(), objective, seed, config.with_suffix(""), options)))
    command = [sys.executable, __file__, str(data), "--work", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def show(results: dict, options: argparse.Namespace) -> None:
    print(
        f"{options.genes:,} most common genes, {options.length} tokens, width 64, 2 layers, {options.steps} steps of 32"
    )
    print(f"{'data':28}{'quantity':32}{'model':>20}{'baseline':>20}  better in")
    for data in options.data:
        for objective in options.objective:
            runs = [results[data, objective, seed] for seed in range(options.seeds)]
            suffix = " (set)" if objective.endswith("_set") else ""
            for number, quantity in enumerate(runs[0]["scores"]):
                pairs = np.array([list(run["scores"].values())[number] for run in runs])
                wins = int((pairs[:, 0] < pairs[:, 1]).sum())
                shown = "".join(f"{m:>12.4f} ± {s:.3f}" for m, s in zip(pairs.mean(0), pairs.std(0), strict=True))
                print(f"{data.stem:28}{quantity + suffix:32}{shown}  {wins}/{len(runs)}")
    print(f"\n{'data':28}{'objective':30}{'accuracy of a linear probe':>30}")
    for data in options.data:
        for objective in options.objective:
            runs = [results[data, objective, seed] for seed in range(options.seeds)]
            for representation in runs[0]["probes"]:
                values = np.array([run["probes"][representation] for run in runs])
                print(f"{data.stem:28}{objective:30}{representation:>20} {values.mean():.3f} ± {values.std():.3f}")
    seconds = [run["cpu_seconds"] for run in results.values()]
    print(f"\nCPU seconds a training: median {np.median(seconds):.0f}, most {max(seconds):.0f}")


if __name__ == "__main__":
    main()
