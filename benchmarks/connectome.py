"""The neural models of connectivity: what they find, and what a region costs that is encoded once.

``planted``: on the planted set, whose rule is a product of a gene in one region and a gene in the other, with the model
of few genes and small width that fits a CPU; beside it every baseline on the same split, and the margin over the best.

``real``: on a file of regions, folds of held-out regions for each seed, models of genes and of genes and places, beside
baselines on the same folds; mean and standard deviation of Pearson r over pairs of two held-out regions, and paired
differences with the interval of Nadeau & Bengio. With ``--out`` what is done is kept and not done again. Settings of
most models were chosen by hand, on folds of another seed; rows "chosen inside training" choose as the baselines do.

``speed``: pairs in a second, training step and prediction, of the siblings that encode each region of a batch once,
against the same models that encode both regions of every pair.

    OMP_NUM_THREADS=1 python -m benchmarks.connectome planted
    OMP_NUM_THREADS=1 python -m benchmarks.connectome real shared/data/connectome/schaefer114.npz
    OMP_NUM_THREADS=1 python -m benchmarks.connectome speed
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.connectome_rows import CROSS, MODELS, PRESET, fitted_row

from scmodelforge.connectome import (
    RegionPairDataset,
    RegionSplit,
    connectivity_metrics,
    get_baseline,
    get_connectome_model,
    list_baselines,
    paired_difference,
    planted_regions,
    read_regions,
    region_folds,
    split_regions,
)
from scmodelforge.connectome.models.predicting import predict_pairs

REAL_BASELINES = (
    "mean",
    "exponential_decay",
    "cge",
    "cge_distance",
    "ridge",
    "bilinear",
    "pls",
    "mlp",
    "mlp_coords",
    "gradient_boosting",
    "gradient_boosting_coords",
    "kronecker_ridge",
    "kronecker_ridge_coords",
    "kronecker_ridge_both",
)
REFERENCES = ("kronecker_ridge", "kronecker_ridge_coords")


def planted(given: argparse.Namespace) -> None:
    for seed in given.seeds:
        data = planted_regions(seed=seed).regions.pairs()
        split = split_regions(data, 0.25, "random", seed)
        targets = data.targets(split.inner)
        found = {}
        for name in given.baselines or list_baselines():
            predicted = get_baseline(name, seed=seed).fit(data, split.train).predict(data, split.inner)
            found[name] = connectivity_metrics(targets, predicted)["pearson_r"]
        best = max((name for name in found if np.isfinite(found[name])), key=found.__getitem__)
        began, cpu = time.perf_counter(), time.process_time()
        arguments = {**PRESET, "cls_init": "spatial", "epochs": given.epochs, "seed": seed}
        model = get_connectome_model(CROSS)(2 * data.num_genes, data, **arguments)
        model.fit(data, split.train, [])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        r = connectivity_metrics(targets, predict_pairs(model, data, split.inner))["pearson_r"]
        print("  ".join(f"{name} {score:.3f}" for name, score in found.items()))
        print(
            f"seed {seed}: {CROSS} r {r:.3f}, best baseline {best} {found[best]:.3f}, margin {r - found[best]:+.3f}; "
            f"{given.epochs} epochs in {cpu:.0f} s of CPU ({wall:.0f} s by the clock)",
            flush=True,
        )


def real(given: argparse.Namespace) -> None:
    data = read_regions(given.path, given.target).pairs()
    done = _done(given.out)
    names = [*REAL_BASELINES, *(given.models or MODELS)]
    for seed in given.seeds:
        for number, split in enumerate(region_folds(data, 4, "random", seed)):
            for name in names:
                key = (name, seed, number)
                if key not in done:
                    done[key] = _scores(name, data, split, seed)
                    _keep(given.out, key, done[key])
    _table(done, data, names)


def _scores(name: str, data: RegionPairDataset, split: RegionSplit, seed: int) -> dict[str, float]:
    cpu = time.process_time()
    if name in MODELS:
        model, taken = fitted_row(name, data, split, seed)
        inner, cross = (predict_pairs(model, taken, pairs).astype(np.float64) for pairs in (split.inner, split.cross))
    else:
        baseline = get_baseline(name, seed=seed).fit(data, split.train)
        inner, cross = (baseline.predict(data, pairs) for pairs in (split.inner, split.cross))
    scores = connectivity_metrics(data.targets(split.inner), inner)
    cross_r = connectivity_metrics(data.targets(split.cross), cross)["pearson_r"]
    return {
        "r": scores["pearson_r"],
        "mse": scores["mse"],
        "cross_r": cross_r,
        "share": len(split.test_regions) / data.num_regions,
        "seconds": time.process_time() - cpu,
    }


def _done(path: Path | None) -> dict[tuple[str, int, int], dict[str, float]]:
    if path is None or not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row.pop("name"), row.pop("seed"), row.pop("fold")): row for row in rows}


def _keep(path: Path | None, key: tuple[str, int, int], scores: dict[str, float]) -> None:
    print(*key, " ".join(f"{name} {value:.3f}" for name, value in scores.items()), flush=True)
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps({"name": key[0], "seed": key[1], "fold": key[2], **scores}) + "\n")


def _table(done: dict[tuple[str, int, int], dict[str, float]], data: RegionPairDataset, names: list[str]) -> None:
    found: dict[str, dict[tuple[int, int], dict[str, float]]] = defaultdict(dict)
    for (name, seed, fold), scores in done.items():
        found[name][seed, fold] = scores
    print(f"\n{data.num_regions} regions, {data.num_genes} genes, Pearson r of inner pairs; x knows places")
    for name in names:
        table = {
            key: np.array([row[key] for row in found[name].values()]) for key in ("r", "mse", "cross_r", "seconds")
        }
        places = MODELS[name][3] if name in MODELS else get_baseline(name).inputs in ("coords", "both")
        print(f"{'x' if places else ' '} {name:36} {len(found[name]):2} folds ", end="")
        print(f"{table['r'].mean():6.3f} +-{table['r'].std(ddof=1):.3f}  MSE {table['mse'].mean():.4f}  ", end="")
        print(f"cross {table['cross_r'].mean():.3f}  CPU {table['seconds'].mean():5.1f} s", end="")
        for other in REFERENCES:
            shared = sorted(set(found[name]) & set(found[other]))
            first, second = ([found[each][key]["r"] for key in shared] for each in (name, other))
            share = float(np.mean([found[other][key]["share"] for key in shared]))
            gap = paired_difference(first, second, test_share=share)
            print(
                f"  - {other}: {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] {gap.num_better}/{gap.num_folds}",
                end="",
            )
        print(flush=True)


def speed(given: argparse.Namespace) -> None:
    """Time a step of training and a prediction, each region once or with every pair."""
    random = np.random.default_rng(0)
    count, genes = given.regions, given.genes
    y = random.normal(size=(count, count))
    names = [f"G{number}" for number in range(genes)]
    data = RegionPairDataset(random.uniform(size=(count, genes)), y + y.T, None, None, "noise", "noise", names)
    pairs = torch.from_numpy(data.pairs(random.permutation(len(data))[: given.batch_size]))
    for name in ("shared_self_attention", "shared_self_attention_pooling", "shared_self_attention_gene2vec", CROSS):
        model = get_connectome_model(name)(2 * genes, data, num_layers=2, d_model=given.width, deep_hidden_dims=[128])
        x = torch.cat([data.X[pairs[:, 0]], data.X[pairs[:, 1]]], dim=1)
        steps: dict[str, Callable[[], torch.Tensor]] = {
            "once": lambda model=model: model.score_pairs(data.X, None, pairs),
            "each": lambda model=model, x=x: model(x),
        }
        line = f"{name:32}"
        for what in ("training", "prediction"):
            times = {how: _seconds(step, train=what == "training") for how, step in steps.items()}
            rates = {how: len(pairs) / seconds for how, seconds in times.items()}
            line += f"  {what}: {rates['once']:8,.0f} pairs/s, {rates['each']:8,.0f} encoding both of every pair: "
            line += f"{rates['once'] / rates['each']:4.1f} x"
        print(line, flush=True)


def _seconds(step: Callable[[], torch.Tensor], *, train: bool, repeats: int = 5) -> float:
    """Return the CPU time of a step on one thread, the least of several."""
    found = []
    for _ in range(repeats + 1):
        began = time.process_time()
        if train:
            step().square().mean().backward()
        else:
            with torch.no_grad():
                step()
        found.append(time.process_time() - began)
    return min(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("planted")
    part.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    part.add_argument("--epochs", type=int, default=6)
    part.add_argument("--baselines", nargs="+", default=None, help="all, if left out")
    part.set_defaults(run=planted)
    part = parts.add_parser("real")
    part.add_argument("path", type=Path)
    part.add_argument("--target", default="fc")
    part.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    part.add_argument("--models", nargs="+", default=None, choices=list(MODELS), help="all, if left out")
    part.add_argument("--out", type=Path, default=None, help="file for the scores of every fold, JSON lines")
    part.set_defaults(run=real)
    part = parts.add_parser("speed")
    part.add_argument("--regions", type=int, default=114)
    part.add_argument("--genes", type=int, default=64)
    part.add_argument("--width", type=int, default=32)
    part.add_argument("--batch-size", type=int, default=1024)
    part.set_defaults(run=speed)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given.run(given)


if __name__ == "__main__":
    main()
