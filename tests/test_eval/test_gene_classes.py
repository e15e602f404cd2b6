"""Scores of classes of genes are those that scikit-learn gives, also where a class is predicted that no gene has."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from scmodelforge.eval.base import Record
from scmodelforge.eval.gene_classes import NAME, score_genes


def record(benchmark: str, representation: str, metric: str, value: float, **facts) -> Record:
    return Record(benchmark, "heldout", representation, metric, value, **facts)


def test_scores_and_intervals():
    truth = np.array(["a", "a", "b", "b", "b", "a"])
    found = {"model": np.array(["a", "c", "b", "a", "b", "a"]), "majority": np.full(6, "b")}
    records = {(each.representation, each.metric): each for each in score_genes(truth, found, record, num_skipped=2)}
    for key, own in found.items():
        assert records[key, "accuracy"].value == pytest.approx(accuracy_score(truth, own))
        wanted = f1_score(truth, own, average="macro", zero_division=0)
        assert records[key, "macro_f1"].value == pytest.approx(wanted)
        assert all(records[key, name].benchmark == NAME for name in ("accuracy", "macro_f1"))
    low, high = records["model", "accuracy"].interval
    assert 0 <= low < accuracy_score(truth, found["model"]) < high <= 1
    assert records["model", "macro_f1"].baselines == {"majority": records["majority", "macro_f1"].value}
    assert (records["model", "accuracy"].n, records["model", "accuracy"].n_skipped) == (6, 2)


def test_without_genes_there_are_none():
    assert score_genes(np.array([], dtype=str), {"model": np.array([], dtype=str)}, record) == []
