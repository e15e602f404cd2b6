"""The page on predicted perturbations: its command, its code and its lists are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.eval.records import read_records
from tests.test_eval.test_perturbation.screens import HELD_OUT, SINGLES, only, screen

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation" / "perturbation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_command_and_its_code_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    screen().write_h5ad("screen.h5ad")
    Path("train.txt").write_text("\n".join(name for name in SINGLES if name not in HELD_OUT))
    (command,), (from_scratch, *others) = blocks("bash"), blocks("python")
    names: dict = {"path": tmp_path / "split.json"}
    exec(from_scratch, names)
    assert set(ad.read_h5ad("predicted.h5ad").obs["condition"]) == set(HELD_OUT)
    result = CliRunner().invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert {record.benchmark for record in read_records(Path("scores.jsonl"))} == {"vcc", "perturbbench"}
    for code in others:
        exec(code, names)
    assert "discrimination_score_l1" in capsys.readouterr().out
    assert len(names["split"].validation) + len(names["split"].test) == 1
    written = [ad.read_h5ad(Path("for_cell_eval") / name) for name in ("pred.h5ad", "real.h5ad")]
    assert [each.var_names.equals(written[0].var_names) for each in written] == [True, True]
    assert set(written[0].obs["target_gene"]) == {*HELD_OUT, "control"}


def test_every_metric_and_baseline_is_on_it():
    from tests.test_eval.test_perturbation.screens import read, run

    found = read(only(screen(), HELD_OUT), screen())
    for name in ("perturbation_prediction", "vcc"):
        for metric in run(name, found):
            stem = metric.removesuffix("_unclipped")
            known = f"`{stem}`" in PAGE or re.search(r"(overlap|precision)_at_\d+|discrimination_score_", stem)
            assert known, metric
