"""Speed of the metrics of predicted perturbations: CPU seconds on one core, one after another.

A screen of counts with 2,000 of 18,000 genes expressed in a cell, perturbations of 100 cells and 1,000 controls, and a
prediction of each that is dense, as a decoder gives it. The aim is the whole of ``vcc``, noise ceiling and score of the
challenge included, within a minute.

    python benchmarks/perturbation_metrics.py --perturbations 20 --cells 100 --genes 18000
"""

from __future__ import annotations

import argparse
import os
import resource
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.sparse as sp  # noqa: E402

from scmodelforge.eval.base import BenchmarkInputs, Cells, get_benchmark  # noqa: E402
from scmodelforge.eval.perturbation.de import rank_sums  # noqa: E402
from scmodelforge.eval.perturbation.inputs import read_predictions  # noqa: E402

EXPRESSED, AIM = 2000, 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perturbations", type=int, default=20)
    parser.add_argument("--training", type=int, default=5, help="perturbations without a prediction")
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--controls", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=18_000)
    options = parser.parse_args()
    real, predicted = make(options)
    print(vars(options), f"numpy {np.__version__}", sep="; ")
    found = read(predicted, real)
    timed(
        "Wilcoxon, real cells (sparse)", lambda: [rank_sums(found.comparison.real, g) for g in found.comparison.groups]
    )
    timed(
        "Wilcoxon, predictions (dense)",
        lambda: [rank_sums(found.comparison.predicted, g) for g in found.comparison.groups],
    )
    for name in ("perturbbench", "perturbation_prediction", "vcc"):
        seconds = timed(f"{name}, all of it", lambda name=name: score(name, read(predicted, real)))
    print(f"vcc: {seconds:.1f} CPU s, aim {AIM:.0f}: {'met' if seconds <= AIM else 'NOT met'}")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def timed(what: str, work) -> float:
    began, began_wall = time.process_time(), time.perf_counter()
    work()
    seconds = time.process_time() - began
    print(f"{what:34} {seconds:7.1f} CPU s {time.perf_counter() - began_wall:7.1f} s", flush=True)
    return seconds


def read(predicted, real):
    return read_predictions(predicted, real, scale="log1p", condition="condition", control="control")


def score(name: str, predictions) -> None:
    labels = np.array([group.label for group in predictions.comparison.groups])
    heldout, nothing = Cells(np.zeros((len(labels), 0)), names=labels), Cells(np.zeros((0, 0)), names=labels[:0])
    benchmark = get_benchmark(name)
    made = benchmark(benchmark.config_class(name=name))
    made.run(BenchmarkInputs("made", nothing, heldout, predictions=predictions))


def make(options):
    rng = np.random.default_rng(0)
    base = rng.gamma(0.3, 1.0, options.genes)
    base *= EXPRESSED / np.minimum(base, 1).sum()
    names, blocks, dense = [], [], []
    for number in range(options.perturbations + options.training + 1):
        size = options.cells if number else options.controls
        means = base * np.where(rng.random(options.genes) < 0.02 * bool(number), rng.choice([0.3, 3], options.genes), 1)
        counts = rng.poisson(np.broadcast_to(np.minimum(means, 50), (size, options.genes))).astype(np.float32)
        logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
        blocks.append(sp.csr_matrix(logged))
        names += [f"P{number:03d}" if number else "control"] * size
        if number <= options.perturbations:
            noise = rng.normal(0, 0.05, logged.shape).astype(np.float32)
            dense.append(np.maximum(logged.mean(axis=0) + noise, 0) if number else logged)
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(options.genes)])
    real = ad.AnnData(sp.vstack(blocks, format="csr"), obs=table(names), var=var)
    rows = sum(len(block) for block in dense)
    return real, ad.AnnData(np.concatenate(dense), obs=table(names[:rows]), var=var)


def table(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"condition": names}, index=[f"cell{i}" for i in range(len(names))])


if __name__ == "__main__":
    main()
