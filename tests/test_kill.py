"""A run killed outright, at moments it does not choose, goes on as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import make_adata
from tests.test_life_cycle import losses, settings

pytestmark = pytest.mark.slow


def start(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scmodelforge", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def configured(folder: Path, name: str, data: Path) -> Path:
    path = folder / f"{name}.yaml"
    config = settings(data, folder / name, training__max_epochs=30, eval__every_n_epochs=10)
    config["output"]["save_every_n_steps"] = 4
    path.write_text(yaml.safe_dump(config))
    return path


def test_losses_and_weights_after_kills_are_those_of_an_unbroken_run(tmp_path):
    data = tmp_path / "cells.h5ad"
    make_adata(80, 30).write_h5ad(data)
    assert start("train", "--config", configured(tmp_path, "whole", data)).wait() == 0
    run = tmp_path / "killed"
    process = start("train", "--config", configured(tmp_path, "killed", data))
    moments = random.Random(time.time_ns())  # other moments each time: none may matter
    for _ in range(3):
        while not (run / "checkpoints" / "last").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start("train", "--resume", run)
    assert process.wait() == 0
    assert losses(run) == losses(tmp_path / "whole")
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
