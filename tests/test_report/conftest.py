"""Run folders as training leaves them, without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from scmodelforge.eval.base import Record
from scmodelforge.eval.records import append_records
from scmodelforge.workflows.views import SeenCells, ViewFolder

REPRESENTATIONS = ("model", "pca", "random", "untrained")


@pytest.fixture(autouse=True, scope="module")
def pictures_of_one_point():
    """Here pictures are painted."""


def write_lines(path: Path, records) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_records(step: int, *, benchmark: str = "cell_type_annotation", seed: int = 0) -> list[Record]:
    """Return two metrics of all representations with values nobody can guess."""
    rng = np.random.default_rng(seed + step)
    found = []
    for metric in ("accuracy_knn15", "macro_f1_knn15"):
        values = {name: float(rng.random()) for name in REPRESENTATIONS}
        for name, value in values.items():
            record = Record(benchmark, "heldout", name, metric, value, [value - 0.05, value + 0.05], n=50, step=step)
            if name == "model":
                record.baselines = {other: each for other, each in values.items() if other != "model"}
            found.append(record)
    return found


def make_run(
    root: Path,
    *,
    steps: int = 40,
    labels: list[str] | None = None,
    label_key: str = "cell_type",
    state: str = "finished",
    is_evaluated: bool = True,
    has_validation: bool = True,
) -> Path:
    """Write the folder of a run of two epochs with two evaluations of 60 cells."""
    root.mkdir(parents=True)
    settings = {
        "data": {"source": "local", "paths": ["/home/somebody/secret/lung.h5ad"], "label_column": label_key},
        "tokenizer": {"strategy": "rank_value", "max_genes": 64},
        "model": {"architecture": "transformer_encoder", "hidden_dim": 32},
        "training": {"max_epochs": 2, "batch_size": 16},
        "eval": {"benchmarks": [{"name": "cell_type_annotation"}] if is_evaluated else []},
        "output": {"run_dir": str(root)},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    names = sorted(set(labels or ["T cell", "B cell"]))
    facts = {
        "scmodelforge_version": "0.1.0",
        "created": "2026-01-02T03:04:05+0000",
        "command": "scmodelforge train --config /home/somebody/secret/lung.yaml",
        "data": [{"name": "lung.h5ad", "cells": 200, "genes": 300, "bytes": 5000000}],
        "num_train": 140,
        "num_validation": 60 if has_validation else 0,
        "num_empty": 1,
        "num_parameters": 12345,
        "objective": "masked_gene_prediction",
        "device": "cpu",
        "processes": 1,
        "git": {"revision": "a" * 40, "dirty": True},
        "vocabulary": {"name": "from_data", "genes": 300, "tokens": 304},
        "overlap": [{"name": "lung.h5ad", "genes": 300, "known": 150}],
        "columns": {"label": {"column": label_key, "num_categories": len(names),
                              "categories": [[name, 7, 3] for name in names]}},
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(facts))
    split = {
        "by": "donor_id",
        "seed": 0,
        "groups": ["d1"],
        "num_groups": 4,
        "num_validation": 60 if has_validation else 0,
    }
    (root / "splits.json").write_text(json.dumps(split))
    metrics = []
    for step in range(10, steps + 1, 10):
        loss = 5.0 - step / 50
        metrics.append({"step": step, "epoch": (step - 1) // 20, "cells": step * 16, "train/loss": loss,
                        "train/masked_gene": loss, "train/lr": 1e-3, "train/grad_norm": 0.5,
                        "train/cells_per_second": 100.0, "train/data_wait_share": 0.1})  # fmt: skip
        if step % 20 == 0 and has_validation:
            metrics.append({"step": step, "epoch": step // 20, "val/loss": loss + 0.1, "val/masked_gene": loss + 0.1})
    write_lines(root / "metrics.jsonl", metrics)
    events = [{"time": "2026-01-02T03:04:05+0000", "event": "start", "step": 0, "host": "elsewhere", "pid": 1}]
    if state in ("finished", "interrupted", "failed"):
        events.append(
            {"time": "2026-01-02T03:05:15+0000", "event": "end", "outcome": state, "why": "stopped by someone"}
        )
    write_lines(root / "sessions.jsonl", events)
    for step in range(20, steps + 1, 20):
        folder = root / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        validation = {"step": step, "metrics": {"val/loss": 5.1 - step / 50}}
        (folder / "state.json").write_text(json.dumps({"progress": {"epoch": step // 20}, "validation": validation}))
        (root / "checkpoints" / "last").write_text(f"{folder.name}\n")
    if is_evaluated:
        _write_evaluations(root, steps, labels, label_key)
    if state == "finished":
        (root / "model").mkdir()
        (root / "model" / "model.safetensors").write_bytes(b"")
    return root


def _write_evaluations(root: Path, steps: int, labels: list[str] | None, label_key: str) -> None:
    rng = np.random.default_rng(1)
    column = np.array([(labels or ["T cell", "B cell"])[i % len(labels or "ab")] for i in range(60)])
    for step in range(20, steps + 1, 20):
        append_records(root / "results.jsonl", make_records(step))
        cells = SeenCells("heldout", rng.normal(size=(60, 8)), {"pca": rng.normal(size=(60, 5))}, column,
                          np.array(["b1", "b2"] * 30), label_key, "batch")  # fmt: skip
        ViewFolder(root / "views").keep(cells, step=step)


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Return the folder of a finished run."""
    return make_run(tmp_path / "lung")
