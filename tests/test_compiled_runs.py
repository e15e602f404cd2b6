"""Runs with ``training.compile`` through the command line: killed, on two processes, tried out, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.conftest import make_adata
from tests.test_life_cycle import losses, settings

pytestmark = pytest.mark.slow


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "scmodelforge", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def run(*words: object, status: int = 0, **environment: str) -> tuple[str, str]:
    process = start(*words, **environment)
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err
    return out, err


def configured(folder: Path, name: str, data: Path, **changes) -> Path:
    path = folder / f"{name}.yaml"
    config = settings(data, folder / name, training__compile=True, model__num_layers=2, **changes)
    config["output"]["save_every_n_steps"] = 4
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


def test_a_killed_run_goes_on_as_the_unbroken_one(tmp_path, data):
    changes = {"training__max_epochs": 8, "eval__every_n_epochs": 4}
    _, said = run("train", "--config", configured(tmp_path, "whole", data, **changes))
    assert "gave up" not in said
    killed = tmp_path / "killed"
    process = start("train", "--config", configured(tmp_path, "killed", data, **changes))
    while len(list(killed.glob("checkpoints/step_*"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "model").exists()
    run("train", "--resume", killed)
    assert losses(killed) == losses(tmp_path / "whole")
    weights = "model/model.safetensors"
    assert (killed / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    run("embed", data, tmp_path / "embedded.h5ad", "--model", killed)


RECIPE = {
    "training__ema": {"decay": 0.9},
    "training__unfreeze": [{"epoch": 0, "parameters": ["head*"]}, {"epoch": 1, "parameters": ["*"]}],
}


@pytest.mark.parametrize("recipe", [{}, RECIPE], ids=["plain", "averages and unfreezing"])
def test_the_run_is_that_of_code_that_is_not_compiled(tmp_path, data, recipe):
    for name in ("compiled", "eager"):
        changes = {"model__dropout": 0.0, "training__max_epochs": 3, **recipe}
        path = configured(tmp_path, name, data, **changes)
        run("train", "--config", path, "--set", f"training.compile={str(name == 'compiled').lower()}")
    one, other = losses(tmp_path / "compiled"), losses(tmp_path / "eager")
    assert list(one) == list(other)
    assert max(abs(one[step] - other[step]) for step in one) < 1e-5
    names = [set(load_file(tmp_path / name / "model" / "model.safetensors")) for name in ("compiled", "eager")]
    assert names[0] == names[1]


def test_a_dry_run_compiles(tmp_path, data):
    out, _ = run("train", "--config", configured(tmp_path, "dry", data), "--dry-run", "--json")
    assert json.loads(out)["config"]["training"]["compile"] is True
    assert not (tmp_path / "dry").exists()


@pytest.mark.distributed
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(tmp_path, data, strategy):
    changes = {"model__dropout": 0.0, "model__activation_checkpointing": True, "training__max_epochs": 2}
    run("train", "--config", configured(tmp_path, "one", data, **changes), "--set", "training.compile=false")
    changes |= {"training__batch_size": 4, "training__devices": 2, "training__strategy": strategy}
    _, said = run("train", "--config", configured(tmp_path, "two", data, **changes))
    assert "gave up" not in said
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two)
    assert max(abs(one[step] - two[step]) for step in one) < 1e-5


def test_without_a_compiler_nothing_is_begun(tmp_path, data):
    _, said = run("train", "--config", configured(tmp_path, "none", data), status=2, CXX="no-such-compiler")
    assert [line for line in said.splitlines() if line.startswith("error: ")] == said.splitlines()[-1:]
    assert "training.compile is true, but torch needs a C++ compiler" in said
    assert not (tmp_path / "none").exists()
