"""Small screens whose effects are known, shared by the tests of predicted perturbations."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, get_benchmark
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions, read_predictions

GENES = [f"GENE{i:03d}" for i in range(40)]
SINGLES = ["GENE001", "GENE002", "GENE003", "GENE004", "GENE005", "GENE006"]
DOUBLES = ["GENE001+GENE002", "GENE003+GENE004", "GENE001+GENE007"]
HELD_OUT = ["GENE005", "GENE006", *DOUBLES]


def screen(conditions=(*SINGLES, *DOUBLES), *, cells=30, controls=40, seed=0, lines=("",)) -> ad.AnnData:
    """Return log-normalised cells. A gene's perturbation changes eight genes of its own, and combinations add up."""
    rng = np.random.default_rng(seed)
    effects = {}
    for gene in GENES:
        own = np.random.default_rng(int(gene[4:]))
        effects[gene] = np.zeros(len(GENES))
        effects[gene][own.choice(len(GENES), 8, replace=False)] = own.choice([-1.2, 1.2], 8)
    base = np.random.default_rng(99).uniform(0.5, 2.5, len(GENES))
    rows, names, of_line = [], [], []
    for number, line in enumerate(lines):
        for condition in ("control", *conditions):
            mean = base * (1 + 0.3 * number)
            if condition != "control":
                mean = mean + sum(effects[gene] for gene in condition.split("+"))
            size = controls if condition == "control" else cells
            values = np.maximum(rng.normal(mean, 0.5, (size, len(GENES))), 0)
            rows.append(values.astype(np.float32))
            names += [condition] * size
            of_line += [line] * size
    obs = pd.DataFrame({"condition": names, "line": of_line}, index=[f"cell{i}" for i in range(len(names))])
    return ad.AnnData(sp.csr_matrix(np.concatenate(rows)), obs=obs, var=pd.DataFrame(index=GENES))


def only(adata: ad.AnnData, conditions) -> ad.AnnData:
    return adata[adata.obs["condition"].isin([*conditions, "control"])].copy()


def read(predicted: ad.AnnData, real: ad.AnnData, **settings) -> PerturbationPredictions:
    given = {"scale": "log1p", "condition": "condition", "control": "control", **settings}
    return read_predictions(predicted, real, **given)


def inputs_of(predictions: PerturbationPredictions, **fields) -> BenchmarkInputs:
    names = np.array([group.label for group in predictions.comparison.groups])
    heldout = Cells(np.zeros((len(names), 0)), names=names)
    nothing = Cells(np.zeros((0, 0)), names=names[:0])
    return BenchmarkInputs("screen", nothing, heldout, predictions=predictions, **fields)


def run(name: str, predictions: PerturbationPredictions, **settings) -> dict[str, Record]:
    benchmark = get_benchmark(name)
    made = benchmark(benchmark.config_class(name=name, **settings))
    return {record.metric: record for record in made.run(inputs_of(predictions))}


def values(records: dict[str, Record]) -> dict[str, tuple]:
    return {name: (each.value, each.interval, each.noise_ceiling, each.tables) for name, each in records.items()}
