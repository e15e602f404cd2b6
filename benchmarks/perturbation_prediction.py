"""How well held-out perturbations are predicted: the fine-tuned model beside every baseline, over several seeds.

Each seed holds out other perturbations. The base model is a small transformer trained for a minute on the cells of the
training conditions and the controls alone; it is fine-tuned on means of training conditions, its checkpoint is chosen
on validation conditions, and what is printed are test conditions, which nothing was chosen by. Errors are root mean
squares over genes of the mean of each condition. The interval of a difference is a bootstrap over test conditions,
those of all seeds together; a condition that several seeds hold out is drawn as one.

    OMP_NUM_THREADS=1 python benchmarks/perturbation_prediction.py norman --data norman_k562_crispra_34cond_hvg500.h5ad
    OMP_NUM_THREADS=1 python benchmarks/perturbation_prediction.py planted

``norman``: 18 genes alone and 15 pairs (Norman et al. 2019, doi:10.1126/science.aax4438), about 100 cells each, 500
genes, of which one is among the perturbed. ``planted``: counts with effects of single genes and of pairs that neither
gene has alone (``tests/test_finetuning/planted.py``).
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import yaml
from tests.test_finetuning.planted import planted

from scmodelforge.eval.perturbation.conditions import CONTROL, Conditions, Group
from scmodelforge.eval.perturbation.splits import split_perturbations
from scmodelforge.workflows.pretrain import start_training

BASE = """
tokenizer: {strategy: binned_expression, max_genes: 512}
model:
  {architecture: transformer_encoder, hidden_dim: 32, num_layers: 2, num_heads: 2, max_seq_len: 512, pooling: mean}
training: {batch_size: 32, max_epochs: 1, precision: 32-true, accelerator: cpu}
"""
TUNE = """
training:
  {batch_size: 20, max_epochs: 60, precision: 32-true, accelerator: cpu, optimizer: {lr: 3.0e-3}}
eval: {benchmarks: [perturbation_prediction]}
"""


def train(folder: Path, name: str, text: str, changes: dict) -> Path:
    """Run some settings and return the run's folder."""
    settings = {**yaml.safe_load(text), **changes}
    settings["data"] = {"split": {"by": "cells", "validation_fraction": 0.2}, "num_workers": 0, **settings["data"]}
    settings["output"] = {"run_dir": str(folder / name), "tensorboard": False}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    start_training(folder / f"{name}.yaml")
    return folder / name


def scores(data: ad.AnnData, *, hold_out: str, held_out: float, seed: int, vocab: str, kept: int) -> list[dict]:
    """Return the errors of the test conditions of one split, by representation."""
    values = data.obs["condition"].astype(str)
    conditions = Conditions.of(values.unique(), control="control")
    names = np.array(conditions.names(list(values)))
    groups = [Group("", name) for name in np.unique(names) if name != CONTROL]
    split = split_perturbations(groups, hold_out, seed=seed, held_out=held_out)
    known = {CONTROL, *(group.perturbation for group in split.train)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data.write_h5ad(folder / "all.h5ad")
        rows = np.flatnonzero(np.isin(names, list(known)))
        data[rows[:: max(1, len(rows) // kept)]].write_h5ad(folder / "base.h5ad")
        base = train(folder, "base", BASE, {"data": {"paths": [str(folder / "base.h5ad")], "gene_vocab": vocab}})
        own = {"base_model": str(base), "task": "perturbation_prediction", "hold_out": hold_out}
        own |= {"held_out": held_out, "split_seed": seed}
        run = train(folder, "run", TUNE, {"data": {"paths": [str(folder / "all.h5ad")]}, "finetune": own})
        records = [json.loads(line) for line in (run / "exported_results.jsonl").read_text().splitlines()]
    single = {group.perturbation for group in split.train if len(group.targets) == 1}
    found = []
    for record in records:
        if record["metric"] != "rmse":
            continue
        table = record["tables"]["per_perturbation"]
        for name, value in zip(table["perturbation"], table["rmse"], strict=True):
            genes = name.split("+")
            kind = f"{'single' if len(genes) == 1 else 'double'}, {sum(gene in single for gene in genes)} seen"
            found.append({"who": record["representation"], "condition": name, "kind": kind, "error": value})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["norman", "planted"])
    parser.add_argument("--data", type=Path, help="the Norman file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hold-out", choices=["unseen", "combination"], action="append", help="default: both")
    parser.add_argument("--base-cells", type=int, default=1500)
    given = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    print(
        f"{given.what}, {given.seeds} seeds; base model: transformer_encoder 2 x 32, pretrained on training cells only"
    )
    ways = given.hold_out or (["unseen", "combination"] if given.what == "norman" else ["combination"])
    for hold_out in ways:
        found = []
        for seed in range(given.seeds):
            if given.what == "norman":
                data, vocab, share = ad.read_h5ad(given.data), "human_protein_coding", 0.4
            else:
                data, vocab, share = planted(20, 60, seed=seed), "from_data", 0.3
            each = scores(data, hold_out=hold_out, held_out=share, seed=seed, vocab=vocab, kept=given.base_cells)
            # Planted data of another seed are other perturbations by the same names.
            own = f" of {seed}" if given.what == "planted" else ""
            found += [{**row, "condition": row["condition"] + own} for row in each]
        show(hold_out, found)


def show(hold_out: str, found: list[dict]) -> None:
    """Print the mean error by kind of condition, and how much less the model's is than each baseline's."""
    who = list(dict.fromkeys(row["who"] for row in found))
    kinds = ["all", *sorted({row["kind"] for row in found})]
    print(f"\nheld out by {hold_out}: rmse of test conditions (mean), and baseline minus model with its 95 % interval")
    for kind in kinds:
        rows = [row for row in found if kind in ("all", row["kind"])]
        number = len([row for row in rows if row["who"] == "model"])
        print(f"  {kind} ({number} conditions)")
        table = {name: [(row["condition"], row["error"]) for row in rows if row["who"] == name] for name in who}
        for name in who:
            if len(table[name]) != number:
                continue
            mean = np.mean([error for _, error in table[name]])
            differences = [(own[0], other[1] - own[1]) for own, other in zip(table["model"], table[name], strict=True)]
            low, high = interval(differences)
            print(f"    {name:16s} {mean:.4f}" + ("" if name == "model" else f"   [{low:+.4f}, {high:+.4f}]"))


def interval(differences: list[tuple[str, float]]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over conditions."""
    by_name: dict[str, list[float]] = {}
    for name, value in differences:
        by_name.setdefault(name, []).append(value)
    sums = np.array([sum(values) for values in by_name.values()])
    counts = np.array([len(values) for values in by_name.values()])
    draws = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()
