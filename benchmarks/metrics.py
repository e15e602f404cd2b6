"""Embedding metrics: scib-metrics' Benchmarker with its defaults (Leiden excluded) against ours, on the CPU.

Each tool scores the same synthetic cells in a fresh process, twice: the first time with what it compiles (ours with an
empty cache of compiled loops), the second time without. Ours also draws its bootstrap intervals. Above 50,000 cells
ours takes a sample by label, and scib-metrics is not run.

    python benchmarks/metrics.py --cells 1000 10000 50000 500000
    python benchmarks/metrics.py --official-python .venv-scib/bin/python    # if scib-metrics is installed elsewhere
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

NUM_LABELS, NUM_BATCHES, DIM = 10, 5, 50
METRICS = {
    "isolated_labels_asw": "isolated_labels",
    "nmi_kmeans": "nmi_ari_cluster_labels_kmeans_nmi",
    "ari_kmeans": "nmi_ari_cluster_labels_kmeans_ari",
    "silhouette_label": "silhouette_label",
    "clisi_knn": "clisi_knn",
    "bras": "bras",
    "ilisi_knn": "ilisi_knn",
    "kbet_per_label": "kbet_per_label",
    "graph_connectivity_directed": "graph_connectivity",
    "pcr_comparison": "pcr_comparison",
    "bio_conservation": "Bio conservation",
    "batch_correction": "Batch correction",
    "total": "Total",
}
LARGEST_OFFICIAL = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 50_000], help="cells of each round")
    parser.add_argument("--official-python", default=sys.executable, help="interpreter with scib-metrics")
    parser.add_argument("--only", choices=["ours", "official"], help="run one of the two")
    parser.add_argument("--worker", choices=["ours", "official"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.cells[0])
        return
    print(f"{NUM_LABELS} labels, {NUM_BATCHES} batches, {DIM} dimensions, float32; {os.cpu_count()} processors")
    print(f"{'cells':>8} {'tool':<14} {'run':<16} {'seconds':>8} {'CPU s':>8} {'peak MiB':>9}")
    for cells in options.cells:
        tools = [options.only] if options.only else ["official", "ours"]
        found = {name: measure(name, cells, options) for name in tools if name == "ours" or cells <= LARGEST_OFFICIAL}
        for name, result in found.items():
            for run, kind in zip(result["runs"], ("with compiling", "without"), strict=True):
                row = f"{run['seconds']:>8.1f} {run['cpu']:>8.1f} {run['peak'] / 2**20:>9.0f}"
                print(f"{cells:>8,} {name:<14} {kind:<16} {row}", flush=True)
        if len(found) == 2:
            compare(found["official"], found["ours"])


def compare(official: dict, ours: dict) -> None:
    """Print how many times faster ours is, its share of the memory, and where the scores differ most."""
    for kind, mine, theirs in zip(("with compiling", "without"), ours["runs"], official["runs"], strict=True):
        print(
            f"{'':>8} {kind}: {theirs['seconds'] / mine['seconds']:.1f} times faster, "
            f"{theirs['cpu'] / mine['cpu']:.1f} times less CPU, {mine['peak'] / theirs['peak']:.2f} of the memory"
        )
    apart = {name: abs(ours["values"][name] - official["values"][name]) for name in METRICS}
    furthest = sorted(apart, key=apart.__getitem__, reverse=True)[:3]
    print(f"{'':>8} largest differences: {', '.join(f'{name} {apart[name]:.4f}' for name in furthest)}", flush=True)


def measure(name: str, cells: int, options: argparse.Namespace) -> dict:
    """Run one tool in a fresh process and return what it wrote."""
    python = options.official_python if name == "official" else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, __file__, "--worker", name, "--cells", str(cells)],
            env={**os.environ, "NUMBA_CACHE_DIR": folder},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def work(name: str, cells: int) -> None:
    """Score the cells twice and print the scores, the times and the peak memory."""
    warnings.simplefilter("ignore")
    data = make(cells)
    score = ours if name == "ours" else official
    runs, values = [], {}
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        values = score(*data)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        runs.append({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "peak": peak})
    print(json.dumps({"runs": runs, "values": values}))


def make(cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an embedding, the cells before integration, labels of unequal size, and batches."""
    random = np.random.default_rng(0)
    labels = random.choice(NUM_LABELS, cells, p=random.dirichlet(np.full(NUM_LABELS, 3.0)))
    batches = random.choice(NUM_BATCHES, cells)
    types = random.normal(size=(NUM_LABELS, DIM)) * 1.2
    shifts = random.normal(size=(NUM_BATCHES, DIM))
    noise = random.normal(size=(cells, DIM))
    before = types[labels] + 0.8 * shifts[batches] + noise
    after = types[labels] + 0.2 * shifts[batches] + noise
    return after.astype(np.float32), before.astype(np.float32), labels, batches


def ours(points: np.ndarray, before: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict[str, float]:
    from scmodelforge.eval import BenchmarkInputs, Cells, get_benchmark

    heldout = Cells(points, labels=labels, batches=batches, positions=np.arange(len(points)))
    inputs = BenchmarkInputs("cells", heldout.select(np.arange(0)), heldout, reference=before)
    benchmark = get_benchmark("batch_integration")
    records = benchmark(benchmark.config_class(name="batch_integration", metrics=list(METRICS))).run(inputs)
    return {record.metric: record.value for record in records}


def official(points: np.ndarray, before: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict[str, float]:
    import anndata as ad
    import pandas as pd
    from scib_metrics.benchmark import Benchmarker

    obs = pd.DataFrame({"label": labels.astype(str), "batch": batches.astype(str)})
    obs.index = obs.index.astype(str)
    cells = ad.AnnData(before, obs=obs, obsm={"after": points, "before": before})
    keys = {"batch_key": "batch", "label_key": "label", "pre_integrated_embedding_obsm_key": "before"}
    benchmarker = Benchmarker(cells, embedding_obsm_keys=["after"], progress_bar=False, **keys)
    benchmarker.benchmark()
    row = benchmarker.get_results(clean_names=False).loc["after"]
    return {name: float(row[theirs]) for name, theirs in METRICS.items()}


if __name__ == "__main__":
    main()
