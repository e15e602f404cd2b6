"""scVI beside a model: trained on the training cells of the evaluation only. Needs the extra ``scvi``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge.config.load import load_config
from scmodelforge.workflows import scvi_baseline
from scmodelforge.workflows.evaluation_sets import run_evaluator
from scmodelforge.workflows.prepare import prepare_data
from tests.conftest import make_adata
from tests.test_workflows.test_evaluation_in_training import configured, invoke

pytestmark = pytest.mark.slow
pytest.importorskip("scvi")


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(scvi_baseline, "_epochs", lambda num_cells: 3)


def cells_of(path, folder):
    config = load_config(configured(folder, path))
    return run_evaluator(config, prepare_data(config), untrained=lambda: None)._sets[0]


def test_embeds_all_cells_and_sees_the_training_ones_only(tmp_path):
    adata = make_adata(90, 40)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    cells = cells_of(tmp_path / "cells.h5ad", tmp_path)
    counts = cells.counts()
    first = scvi_baseline.scvi_embedding(cells, counts)
    assert first.shape == (len(cells.positions), 10)
    assert np.isfinite(first).all()
    changed = counts.toarray()
    changed[cells.num_train :] = np.random.default_rng(0).poisson(9, changed[cells.num_train :].shape)
    other = scvi_baseline.scvi_embedding(cells, sp.csr_matrix(changed))
    np.testing.assert_array_equal(first[: cells.num_train], other[: cells.num_train])
    assert (first[cells.num_train :] != other[cells.num_train :]).any()


def test_stands_in_the_table(tmp_path):
    make_adata(90, 40).write_h5ad(tmp_path / "cells.h5ad")
    config = configured(tmp_path, tmp_path / "cells.h5ad", metric="val/loss")
    assert invoke("train", config).exit_code == 0
    result = invoke("evaluate", tmp_path / "run", "--baselines", "pca,scvi", "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {each["representation"] for each in found} == {"model", "pca", "scvi"}


def test_stands_in_the_table_of_labels_carried_over_too(tmp_path):
    for seed, name in enumerate(("first", "second")):
        make_adata(90, 40, seed=seed).write_h5ad(tmp_path / f"{name}.h5ad")
    transfer = {"name": "label_transfer", "label": "cell_type", "probes": ["knn"]}
    transfer |= {"reference": str(tmp_path / "first.h5ad"), "dataset": str(tmp_path / "second.h5ad")}
    config = configured(tmp_path, tmp_path / "first.h5ad", metric="val/loss")
    words = ["--set", f"eval.benchmarks={json.dumps([transfer])}", "--set", "eval.max_cells=60"]
    done = invoke("train", config, *words)
    assert done.exit_code == 0, done.output
    result = invoke("evaluate", tmp_path / "run", "--baselines", "hvg,scvi", "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {each["representation"] for each in found} == {"model", "hvg", "scvi"}
    assert all(each["value"] is not None for each in found if each["metric"] == "accuracy_knn15")
