"""Two processes through the command line: the run of one process with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import make_adata
from tests.test_life_cycle import losses, settings

pytestmark = pytest.mark.distributed


def run_command(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scmodelforge", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def configured(folder: Path, name: str, data: Path, **changes) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings(data, folder / name, model__dropout=0.0, **changes)))
    return path


def test_the_loss_curve_is_that_of_one_process_and_everything_is_written_once(tmp_path):
    data = tmp_path / "cells.h5ad"
    make_adata(70, 30).write_h5ad(data)
    one = configured(tmp_path, "one", data, training__batch_size=8)
    two = configured(tmp_path, "two", data, training__batch_size=4, training__devices=2)
    for config in (one, two):
        done = run_command("train", "--config", config)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("accuracy_linear_probe") == 1
        assert done.stderr.count("held out 2 of 5 donors") == 1
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(first) == list(second)
    # Sums of floats over two processes: 1e-5 is what the order of additions costs in float32 here.
    assert max(abs(first[step] - second[step]) for step in first) < 1e-5
    records = [json.loads(line) for line in (tmp_path / "two" / "results.jsonl").read_text().splitlines()]
    keys = [(r["representation"], r["metric"], r["benchmark"]) for r in records]
    assert len(keys) == len(set(keys))


def test_bad_data_end_both_processes_with_status_2(tmp_path):
    data = tmp_path / "cells.h5ad"
    adata = make_adata(70, 30)
    adata.X = adata.X * 0.5
    adata.write_h5ad(data)
    done = run_command("train", "--config", configured(tmp_path, "two", data, training__devices=2))
    assert done.returncode == 2
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "two").exists()
