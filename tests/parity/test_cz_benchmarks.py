"""Equal to cz-benchmarks 0.15.1 on three embeddings of one data set. Needs the package; .ci/full has it."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, get_benchmark
from scmodelforge.eval.cz_benchmarks import run_task
from tests.parity.golden import golden_folder, needs

pytest.importorskip("czbenchmarks")

FOLDER = golden_folder("eval")
EMBEDDINGS = ("X_pca", "X_harmony", "X_random")
#: Neither a solver nor approximate neighbours have a part in these.
EXACT = ("czb_silhouette_score",)
#: Their figure comes of categorical batches with categories that a label lacks, by which scib-metrics drops that label.
OF_CATEGORICALS = "czb_batch_silhouette"
APPROXIMATE = 0.02

pytestmark = [
    needs(FOLDER),
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("real_umap"),
]


@cache
def inputs() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "scib_pbmc3batch_inputs.npz", allow_pickle=False) as found:
        return dict(found)


@cache
def ours(embedding: str) -> dict[str, Record]:
    data = inputs()
    vectors = data[embedding]
    cells = Cells(vectors, labels=data["label"], batches=data["batch"], positions=np.arange(len(vectors)))
    nothing = Cells(np.zeros((0, vectors.shape[1])))
    benchmark = get_benchmark("cz_benchmarks")
    records = benchmark(benchmark.config_class(name="cz_benchmarks")).run(BenchmarkInputs("pbmc", nothing, cells))
    return {record.metric: record for record in records}


def theirs(embedding: str) -> dict[str, float]:
    tasks = json.loads((FOLDER / "czbenchmarks_pbmc3batch_expected.json").read_text())["results"][embedding]
    values = {}
    for task, results in tasks.items():
        for result in results if task != "seconds" else []:
            classifier = result["params"].get("classifier", "").replace("MEAN(knn,lr,rf)", "mean")
            values["_".join(["czb", result["metric"], *filter(None, [classifier])])] = result["value"]
    return values


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_every_score_is_theirs(embedding):
    found, expected = ours(embedding), theirs(embedding)
    assert expected.keys() <= found.keys()
    for metric, value in expected.items():
        if metric == OF_CATEGORICALS:
            continue
        assert found[metric].value == pytest.approx(value, abs=1e-4 if metric in EXACT else APPROXIMATE), metric


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_no_label_is_dropped_of_the_silhouette_of_batches(embedding):
    data = inputs()
    labels, batches = data["label"], pd.Series(data["batch"], dtype="category")
    dropping = run_task("batch_integration", data[embedding], labels, batches)[OF_CATEGORICALS]
    assert dropping == pytest.approx(theirs(embedding)[OF_CATEGORICALS], abs=1e-4)
    scib = json.loads((FOLDER / "scib_pbmc3batch_expected.json").read_text())
    expected = scib["results"][embedding]["silhouette_batch"]
    assert ours(embedding)[OF_CATEGORICALS].value == pytest.approx(expected, abs=1e-4)


def test_records_say_what_computed_them():
    record = ours("X_pca")["czb_entropy_per_cell"]
    assert record.params == {"task": "batch_integration", "seed": 42}
    assert "cz-benchmarks" in record.library
    assert "scib-metrics" in record.library
