"""Commands and code of the page on in-silico perturbation run as they stand there."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import get_args

import anndata as ad
import pandas as pd
import pytest

import scmodelforge as smf
from scmodelforge.cli.perturb import perturb
from scmodelforge.eval.genes.changed_cells import Kind
from scmodelforge.eval.screens.gradient import _WITH_ONE
from scmodelforge.hub import save_bundle
from tests.test_docs import DOCS, blocks
from tests.test_life_cycle import invoke
from tests.test_tl import cells
from tests.test_workflows.ready_models import ready_model

PAGE = (DOCS / "perturb.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cells().write_h5ad("cells.h5ad")
    save_bundle(Path("runs/lung/model"), ready_model(), card="")
    return tmp_path


def test_commands_run_and_every_column_is_in_the_table(folder):
    known = set(re.findall(r"`(\w+)`", PAGE.partition("## The table")[2]))
    for command in "".join(blocks("perturb.md", "bash")).splitlines():
        out = shlex.split(command)[3]
        invoke(*shlex.split(command)[1:])
        if out.endswith(".csv"):
            assert set(pd.read_csv(out).columns) - {"cell_type"} <= known
    assert "table" in ad.read_h5ad("fast.h5ad").uns["scmodelforge_perturb"]
    assert len(pd.read_csv("pairs.csv")) == 3


def test_code_runs(folder, capsys):
    (code,) = blocks("perturb.md", "python")
    names: dict = {}
    exec(code, names)
    assert "TNMD" in capsys.readouterr().out
    assert "scmodelforge_perturb" in names["adata"].uns


def test_every_option_argument_and_choice_is_mentioned():
    options = [name for name in inspect.signature(perturb).parameters if name not in ("data", "out")]
    assert [name for name in options if f"--{name.replace('_', '-')}" not in PAGE] == []
    shared = ("adata", "model", "batch_size", "layer", "gene_id_column", "trust_plugins")
    arguments = [name for name in inspect.signature(smf.tl.perturb).parameters if name not in shared]
    assert [name for name in arguments if f"`{name}`" not in PAGE] == []
    assert [name for name in (*get_args(Kind), *_WITH_ONE) if f"`{name}`" not in PAGE] == []
