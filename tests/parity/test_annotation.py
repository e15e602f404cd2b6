"""Probes of annotation on cells of three batches of blood, as scikit-learn scored them (1.9.1)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge.eval.base import BenchmarkInputs, Cells
from tests.test_eval.scoring import run

from .golden import golden_folder, needs

FOLDER = golden_folder("eval")
PROBES = ["linear_probe", "knn15"]
SPLITS = ["holdout_batch_5p", "random_every_5th"]

pytestmark = needs(FOLDER)


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((FOLDER / "annotation_pbmc3batch_expected.json").read_text())["results"]


@pytest.fixture(scope="module")
def blood() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "scib_pbmc3batch_inputs.npz") as arrays:
        return dict(arrays)


def inputs(blood, split: str, embedding: str) -> BenchmarkInputs:
    number = np.arange(len(blood["label"]))
    is_out = blood["batch"] == "5p" if split == "holdout_batch_5p" else number % 5 == 0

    def part(rows):
        labels, batches = blood["label"][rows], blood["batch"][rows]
        return Cells(blood[embedding][rows], labels, batches, positions=number[rows])

    return BenchmarkInputs("pbmc_3batch", part(~is_out), part(is_out), label_key="label", batch_key="batch")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("embedding", ["X_pca", "X_harmony", "X_random"])
def test_scores_are_those_of_scikit_learn(blood, expected, split, embedding):
    found = run("cell_type_annotation", inputs(blood, split, embedding), probes=["linear_probe", "knn"])
    for probe in PROBES:
        wanted = expected[split][f"{embedding}.{probe}"]
        ours = {name: found[f"{name}_{probe}"].value for name in wanted}
        assert ours == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("split", SPLITS)
def test_cells_and_majority_are_those_of_scikit_learn(blood, expected, split):
    found = run("cell_type_annotation", inputs(blood, split, "X_pca"), probes=["knn"])
    record, wanted = found["accuracy_knn15"], expected[split]
    assert (record.params["num_train"], record.n) == (wanted["n_train"], wanted["n_test"])
    assert record.tables["labels"] == wanted["classes_kept"]
    assert record.baselines["majority"] == pytest.approx(wanted["majority"]["accuracy"])
    assert found["macro_f1_knn15"].baselines["majority"] == pytest.approx(wanted["majority"]["macro_f1"])
