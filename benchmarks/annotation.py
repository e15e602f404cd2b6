"""How long annotation takes: our linear probe and neighbours against scikit-learn's, on the same cells in one run.

The embeddings are like those of transformers: columns that say much the same, labels that overlap and are not equally
frequent. Printed are CPU seconds on one thread, the accuracy on held-out cells, and the share of held-out cells that
both give the same label. Strict rows: scikit-learn in single precision, and with the looser tolerance that takes it
about as long as ours; and the whole benchmark with its intervals.

    OMP_NUM_THREADS=1 python benchmarks/annotation.py --cells 10000 --width 512 --labels 50
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from scmodelforge.eval.annotation.probes import ProbeConfig, fit_probe
from scmodelforge.eval.base import BenchmarkInputs, Cells, get_benchmark


def cells_like_a_transformers(num_cells: int, width: int, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of twice as many cells and their labels; the first half is for training."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(num_labels, 0.7)) + 0.002
    codes = rng.choice(num_labels, size=2 * num_cells, p=shares / shares.sum())
    falling = np.arange(1, width + 1)
    centres = 0.5 * rng.normal(size=(num_labels, width)) * falling**-0.3
    latent = (centres[codes] + rng.normal(size=(2 * num_cells, width))) / falling
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    labels = np.array([f"type{code:03d}" for code in range(num_labels)])[codes]
    return np.tanh(3 * latent @ rotation).astype(np.float32), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--labels", type=int, default=50)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    points, labels = cells_like_a_transformers(given.cells, given.width, given.labels)
    train, heldout = slice(None, given.cells), slice(given.cells, None)
    scaled = (points - points[train].mean(axis=0)) / points[train].std(axis=0)
    print(f"{given.cells:,} cells x {given.width}, {given.labels} labels; scikit-learn {sklearn.__version__}")

    def ours(probe) -> Callable[[], np.ndarray]:
        def label() -> np.ndarray:
            fitted = fit_probe(probe, ProbeConfig(name="cell_type_annotation"), points[train], labels[train])
            return fitted.names[fitted.probabilities(points[heldout]).argmax(axis=1)]

        return label

    def theirs(model, rows: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: model.fit(rows[train], labels[train]).predict(rows[heldout])

    def logistic(**settings) -> LogisticRegression:
        return LogisticRegression(C=1.0, max_iter=2000, **settings)

    neighbors = KNeighborsClassifier(15, algorithm="brute")
    runs = {
        "linear probe, ours": ours("linear_probe"),
        "linear probe, scikit-learn": theirs(logistic(), scaled.astype(np.float64)),
        "  strict: float32": theirs(logistic(), scaled),
        "  strict: float32, tol 1e-2": theirs(logistic(tol=1e-2), scaled),
        "  optimum: tol 1e-7": theirs(logistic(tol=1e-7), scaled.astype(np.float64)),
        "neighbours, ours": ours("knn"),
        "neighbours, scikit-learn": theirs(neighbors, points.astype(np.float64)),
        "  strict: float32 too": theirs(neighbors, points),
    }
    first = None
    for name, run in runs.items():
        began = time.process_time()
        found = run()
        seconds = time.process_time() - began
        first = found if not name.startswith(" ") and name.endswith("ours") else first
        right, same = (found == labels[heldout]).mean(), (found == first).mean()
        print(f"{name:28} {seconds:7.1f} s   accuracy {right:.4f}   as ours {same:.4f}")
    number = np.arange(len(points))
    parts = [Cells(points[rows], labels[rows], positions=number[rows]) for rows in (train, heldout)]
    benchmark = get_benchmark("cell_type_annotation")
    began = time.process_time()
    records = benchmark(benchmark.config_class()).run(BenchmarkInputs("cells", *parts))
    print(f"whole benchmark, {len(records)} metrics with intervals {time.process_time() - began:7.1f} s")


if __name__ == "__main__":
    main()
