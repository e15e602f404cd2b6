"""A real run seen from where its figures go: all places tell the same, training and biology on one axis."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tests.conftest import make_adata
from tests.test_life_cycle import EPOCHS, invoke, train
from tests.test_training.wandb_files import about, files_of, history

pytest.importorskip("wandb")
pytest.importorskip("tensorboard")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(60, 30).write_h5ad(data)
    places = {"output__tensorboard": True, "output__wandb": {"project": "watched"}}
    return train(tmp_path_factory.mktemp("runs"), data, "watched", **places, eval__every_n_epochs=1)


def truth(run: Path) -> dict[str, dict[int, float]]:
    """Return each figure with a slash in its name by step, from the lines."""
    found: dict[str, dict[int, float]] = {}
    for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        for name, value in record.items():
            if "/" in name and value is not None:
                found.setdefault(name, {})[record["step"]] = value
    return found


def test_training_and_biology_have_the_same_steps(run):
    figures = truth(run)
    evaluated = [name for name in figures if name.startswith("eval/")]
    assert evaluated
    assert all(len(figures[name]) == EPOCHS for name in evaluated)
    assert all(set(figures[name]) == set(figures["val/loss"]) <= set(figures["train/loss"]) for name in evaluated)
    assert {"train/tokens_per_second", "train/step_seconds"} < set(figures)


def test_tensorboard_tells_the_same(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    figures = truth(run)
    assert set(events.Tags()["scalars"]) == set(figures)
    for name, values in figures.items():
        assert {e.step: e.value for e in events.Scalars(name)} == pytest.approx(values, rel=1e-6)


def test_weights_and_biases_tells_the_same(run):
    (path,) = files_of(run)
    found: dict[str, dict[int, float]] = {}
    for row in history(path):
        for name, value in row.items():
            if "/" in name and not (isinstance(value, str) or math.isnan(value)):
                found.setdefault(name, {})[row["step"]] = value
    assert found == truth(run)
    settings = {item.key: json.loads(item.value_json) for item in about(path).config.update}
    assert settings["model"]["hidden_dim"] == 16


def test_the_table_tells_the_same(run):
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    for name, values in truth(run).items():
        assert {int(row["step"]): float(row[name]) for row in rows if row[name]} == values


def test_the_run_can_be_replaced(run):
    """All that it left is known as its own, also by a kill while the table was written."""
    (run / ".metrics.csv.writing").write_text("step,epo")
    invoke("train", "--config", run.with_suffix(".yaml"), "--force", "--set", "training.max_epochs=1")
    assert len(files_of(run)) == 1
