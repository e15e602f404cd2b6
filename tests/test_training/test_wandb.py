"""With the real package in offline mode: what it wrote is read back."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import WandbConfig
from scmodelforge.training import _wandb
from scmodelforge.training._wandb import check_wandb
from scmodelforge.training.metrics import MetricsLog

from .wandb_files import about, files_of, history

wandb = pytest.importorskip("wandb")


def log_of(folder, **changes) -> MetricsLog:
    options = {"project": "cells", "tags": ["lung"], **changes}
    return MetricsLog(folder, tensorboard=False, wandb=WandbConfig(**options), settings={"training": {"seed": 3}})


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that was killed after step 30 and resumed after step 20."""
    run = tmp_path_factory.mktemp("runs") / "lung"
    state = random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with log_of(run) as log:
        for step in (10, 20, 30):
            log.log(step, {"epoch": 0, "train/loss": 1 / step})
            if step == 20:
                log.log(step, {"epoch": 1, "val/loss": 0.5})
                log.log(step, {"eval/annotation/own/accuracy": 0.75})
    with log_of(run) as log:
        log.truncate(20)
        for step in (30, 40):
            log.log(step, {"train/loss": 2 / step})
    assert state == (random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    return run


class TestOffline:
    def test_training_and_biology_are_on_one_axis(self, resumed):
        rows = history(files_of(resumed)[0])
        assert [(row["step"], row["_step"], row["train/loss"]) for row in rows] == [
            (10, 10, 0.1),
            (20, 20, 0.05),
            (30, 30, 1 / 30),
        ]
        assert [
            (row["step"], row["val/loss"], row["eval/annotation/own/accuracy"]) for row in rows if "val/loss" in row
        ] == [(20, 0.5, 0.75)]
        assert not any("epoch" in row for row in rows)

    def test_says_what_the_run_is(self, resumed):
        run = about(files_of(resumed)[0])
        assert (run.project, run.display_name, list(run.tags)) == ("cells", "lung", ["lung"])
        settings = {item.key: item.value_json for item in run.config.update}
        assert settings["training"] == '{"seed":3}'

    def test_a_resumed_run_is_the_same_one_and_goes_on_after_its_checkpoint(self, resumed):
        first, second = files_of(resumed)
        assert about(first).run_id == about(second).run_id == (resumed / "wandb" / "run_id").read_text().strip()
        assert [(row["_step"], row["train/loss"]) for row in history(second)] == [(30, 2 / 30), (40, 0.05)]

    def test_disabled_writes_nothing_there(self, tmp_path):
        with log_of(tmp_path, mode="disabled") as log:
            log.log(1, {"train/loss": 1.0})
        assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.jsonl"}

    def test_nothing_is_begun_before_the_first_record(self, tmp_path):
        log_of(tmp_path / "run").close()
        assert list(tmp_path.iterdir()) == []


class TestChecks:
    @pytest.fixture
    def without_a_key(self, monkeypatch, tmp_path):
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))

    @pytest.mark.usefixtures("without_a_key")
    def test_online_without_a_key_is_refused_with_the_mend(self):
        with pytest.raises(ConfigError, match=r"no key of Weights & Biases here; run wandb login, or use --set"):
            check_wandb(WandbConfig(mode="online"))

    @pytest.mark.usefixtures("without_a_key")
    def test_only_online_needs_a_key(self):
        def is_refused(config: WandbConfig | None) -> bool:
            try:
                check_wandb(config)
            except ConfigError:
                return True
            return False

        sections = {"default": WandbConfig(), "none": None}
        sections |= {mode: WandbConfig(mode=mode) for mode in ("offline", "online", "disabled")}
        assert [name for name, section in sections.items() if is_refused(section)] == ["online"]

    def test_not_installed_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ImportError, match=r"output.wandb needs .*'wandb'.* pip install 'scmodelforge\[log\]'"):
            check_wandb(WandbConfig())

    @pytest.mark.parametrize(("mode", "is_asked_for"), [("disabled", False), ("offline", True)])
    def test_disabled_asks_for_no_package(self, monkeypatch, mode, is_asked_for):
        asked = []
        monkeypatch.setattr(_wandb, "require", lambda name, **why: asked.append(name))
        check_wandb(WandbConfig(mode=mode))
        assert asked == ["wandb"] * is_asked_for


def test_neither_the_loop_nor_the_log_imports_it():
    code = (
        "import sys, scmodelforge.training.loop, scmodelforge.workflows.pretrain; "
        "sys.exit(bool({'wandb', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
