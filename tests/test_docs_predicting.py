"""The page on predicting perturbations: its settings, its commands and its code run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.test_docs import blocks
from tests.test_finetuning.planted import planted
from tests.test_finetuning.test_perturbation_runs import BASE, write
from tests.test_life_cycle import invoke


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    screen = planted(6, 24, cells=12, controls=30)
    screen.X = sp.csr_matrix(screen.X)
    screen.write_h5ad("screen.h5ad")
    config = write(tmp_path, "base", BASE, Path("screen.h5ad"), data={"gene_vocab": "from_data"})
    invoke("train", "--config", config, "--set", "output.run_dir=runs/base")
    page = "perturbation_prediction.md"
    (settings,) = blocks(page, "yaml")
    short = settings.replace("max_epochs: 60", "max_epochs: 2, accelerator: cpu")
    Path("screen.yaml").write_text(short)
    commands = [line for block in blocks(page, "bash") for line in block.splitlines() if line]
    codes = blocks(page, "python")
    names: dict = {}

    def run(command: str) -> str:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
        return result.output

    assert "perturbation_prediction: the model " in run(commands[0])
    for command in commands[1:3]:
        run(command)
    for code in codes:
        exec(code, names)
    assert "GENE000+GENE001" in capsys.readouterr().out
    assert "rmse" in run(commands[3])
