"""The examples of docs/finetuning.md run as they stand, on a small base model."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import FinetuneConfig
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, train

PAGE = (Path(__file__).parents[1] / "docs" / "finetuning.md").read_text()
QUICK = ["--set", "training.max_epochs=1", "--set", "training.accelerator=cpu", "--set", "output.tensorboard=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    make_adata(80, 30).write_h5ad(folder / "cells.h5ad")
    train(folder, folder / "cells.h5ad", "blood", training__max_epochs=1, eval__benchmarks=[])
    (folder / "runs").mkdir()
    (folder / "blood").rename(folder / "runs" / "blood")
    return folder


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.replace("\\\n", " ").strip().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="adapters are exported")
def test_the_commands_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for words in commands():
        if words[0] == "hub":
            invoke(*words)
            continue
        more = [] if "--sweep" in words else ["--adaptation", "lora"]
        invoke(*words, *QUICK, *more)
    assert (folder / "sweeps" / "lr" / "table.tsv").is_file()
    assert (folder / "merged" / "model.safetensors").is_file()


def test_the_settings_are_valid(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "run.yaml").write_text(text)
    assert load_config(tmp_path / "run.yaml").finetune.lora.rank == 8
    assert yaml.safe_load(text)["finetune"]["adaptation"] == "lora"


def test_the_page_names_every_adaptation_and_option():
    kinds = FinetuneConfig.model_fields["adaptation"].annotation.__args__
    assert all(f"`{kind}`" in PAGE for kind in kinds)
    (command,) = (each for each in app.registered_commands if each.name == "finetune")
    assert command.callback is not None
    named = re.findall(r"`?(--[a-z-]+)", PAGE)
    assert {"--base-model", "--sweep", "--folds", "--resume", "--dry-run", "--out"} <= {*named}
