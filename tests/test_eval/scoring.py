"""Small sets of cells whose scores are known, shared by the tests of benchmarks."""

from __future__ import annotations

import numpy as np

from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, get_benchmark


def clustered(num_cells: int = 120, num_labels: int = 3, *, spread: float = 0.05, seed: int = 0) -> BenchmarkInputs:
    """Return cells in tight clusters, one for each label, half of them held out, in two batches that do not matter."""
    rng = np.random.default_rng(seed)
    codes = np.arange(num_cells) % num_labels
    centres = 5 * np.eye(num_labels, 8)
    embeddings = centres[codes] + spread * rng.normal(size=(num_cells, 8))
    labels = np.array([f"type{code}" for code in codes])
    batches = rng.choice(["b0", "b1"], size=num_cells)
    return split(embeddings, labels, batches)


def split(embeddings, labels=None, batches=None, **fields) -> BenchmarkInputs:
    """Train on the first half of the cells, hold out the second."""
    positions = np.arange(len(embeddings))
    half = len(embeddings) // 2

    def part(rows: slice) -> Cells:
        return Cells(
            embeddings[rows],
            labels=None if labels is None else np.asarray(labels)[rows],
            batches=None if batches is None else np.asarray(batches)[rows],
            positions=positions[rows],
        )

    given = {"label_key": "cell_type", "batch_key": "batch", "seed": 3, **fields}
    return BenchmarkInputs("cells", part(slice(None, half)), part(slice(half, None)), **given)


def unstructured(num_cells: int = 400, num_labels: int = 4, *, seed: int = 1) -> BenchmarkInputs:
    """Return noise with labels that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.array([f"type{i % num_labels}" for i in range(num_cells)]))
    return split(rng.normal(size=(num_cells, 8)), labels, rng.choice(["b0", "b1"], size=num_cells))


def shuffled(inputs: BenchmarkInputs, *, seed: int = 0) -> BenchmarkInputs:
    """Return the same cells, listed in another order."""
    from dataclasses import replace

    rng = np.random.default_rng(seed)
    parts = {
        name: getattr(inputs, name).select(rng.permutation(len(getattr(inputs, name)))) for name in ("train", "heldout")
    }
    return replace(inputs, **parts)


def run(name: str, inputs: BenchmarkInputs, **settings) -> dict[str, Record]:
    """Run a registered benchmark and return its records by metric."""
    benchmark = get_benchmark(name)
    return {record.metric: record for record in benchmark(benchmark.config_class(**settings)).run(inputs)}


def values(records: dict[str, Record]) -> dict[str, tuple]:
    return {metric: (record.value, record.interval) for metric, record in records.items()}
