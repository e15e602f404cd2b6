"""``scmodelforge finetune --sweep``: the same folds for each setting, a run for each, nothing trained twice."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.load import parse_config
from scmodelforge.hub import load_bundle
from scmodelforge.training import loop
from scmodelforge.workflows.folds import make_folds
from scmodelforge.workflows.prepare import open_source
from scmodelforge.workflows.sweep_table import SweepResult, Tried
from tests.conftest import make_adata
from tests.test_finetuning.test_command import refused, words
from tests.test_life_cycle import invoke
from tests.test_workflows.ready_models import GENES

MORE = ("--epochs", 1, "--adaptation", "frozen", "--sweep", "training.optimizer.lr=1e-4,1e-2", "--folds", 2)


@pytest.fixture(scope="module")
def swept(base, cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, invoke(*words(base, cells, out, *MORE))


def runs(out):
    return sorted(path.parent for path in out.glob("*/fold_*/run.json"))


class TestRuns:
    def test_each_setting_has_a_run_on_each_fold(self, swept):
        out, output = swept
        assert len(runs(out)) == 4
        splits = [json.loads((run / "splits.json").read_text()) for run in runs(out)]
        held = [{*split["groups"]} for split in splits]
        assert held[0] & held[1] == set()  # folds of donors
        assert held[:2] == held[2:]  # the same for each setting
        assert sum(split["num_validation"] for split in splits[:2]) == 80
        assert "training.optimizer.lr=0.01" in output
        assert "best by val/loss over 2 folds: training.optimizer.lr=" in output
        assert "macro_f1_head" in (out / "table.tsv").read_text()

    def test_means_and_intervals_are_over_the_folds(self, swept):
        out, _ = swept
        headings, *rows = [line.split("\t") for line in (out / "table.tsv").read_text().splitlines()]
        assert headings[:2] == ["setting", "val/loss"]
        losses = [
            [
                json.loads((run.with_name(f"{run.name}.json")).read_text())["scores"]["val/loss"]
                for run in runs(out)[i : i + 2]
            ]
            for i in (0, 2)
        ]
        expected = sorted(f"{np.mean(pair):.4f} ±{_half(pair):.4f}" for pair in losses)
        assert sorted(row[1] for row in rows) == expected
        assert float(rows[0][1].split()[0]) <= float(rows[1][1].split()[0])

    def test_the_same_command_trains_nothing_again(self, swept, base, cells, monkeypatch):
        out, before = swept
        monkeypatch.setattr(loop.Progress, "__setattr__", lambda *given: pytest.fail("a step was taken"))
        assert invoke(*words(base, cells, out, *MORE)).splitlines()[-8:] == before.splitlines()[-8:]

    def test_other_settings_do_not_go_into_the_folder(self, swept, base, cells):
        out, _ = swept
        line = refused(*words(base, cells, out, *MORE, "--batch", "batch"))
        assert "holds a sweep of other settings" in line

    def test_interrupted_it_says_how_to_go_on_and_does(self, swept, base, cells, tmp_path, monkeypatch):
        real, steps = loop.Progress.__setattr__, []

        def stop(progress, name, value):
            real(progress, name, value)
            if name == "step" and value:
                steps.append(value)
                if len(steps) == 5:  # in the second run
                    os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Progress, "__setattr__", stop)
            result = CliRunner().invoke(app, words(base, cells, tmp_path / "out", *MORE))
        assert result.exit_code == 1, result.output
        assert "the same command goes on from there" in result.stderr
        invoke(*words(base, cells, tmp_path / "out", *MORE))
        assert (tmp_path / "out" / "table.tsv").read_text() == (swept[0] / "table.tsv").read_text()


class TestBeginning:
    def test_what_its_first_run_refuses_leaves_nothing_and_the_mended_command_begins(self, base, cells, tmp_path):
        out = tmp_path / "out"
        weights = ("--set", "finetune.class_weights={nobody: 2.0}")  # known to be wrong when the cells are read
        assert "finetune.class_weights names 'nobody'" in refused(*words(base, cells, out, *MORE, *weights))
        assert not out.exists()
        (out / "folds").mkdir(parents=True)
        (out / "sweep.json").write_text('{"hash": "of a sweep that ended before its first run"}')
        settings = (*MORE[:4], "--sweep", "training.optimizer.lr=1e-3", "--folds", 2)
        assert "best by val/loss over 2 folds" in invoke(*words(base, cells, out, *settings))

    def test_other_data_at_the_same_place_are_another_sweep(self, base, tmp_path):
        cells, out = tmp_path / "cells.h5ad", tmp_path / "out"
        make_adata(60, 30).write_h5ad(cells)
        given = words(base, cells, out, *MORE[:4], "--sweep", "training.optimizer.lr=1e-3", "--folds", 2)
        invoke(*given)
        make_adata(60, 30, seed=1).write_h5ad(cells)
        assert "holds a sweep of other settings, of another base model or of other data" in refused(*given)
        assert json.loads((out / "sweep.json").read_text())["base_model_id"]

    def test_it_says_what_the_choice_is_made_on(self, swept):
        assert "chosen on: cells that are scored as well: its scores are the best of several" in swept[1]


class TestGenes:
    def test_each_gene_is_held_out_by_one_fold(self, settings, place, tmp_path):
        genes = tmp_path / "genes.tsv"
        genes.write_text("".join(f"{gene}\t{number % 2}\n" for number, gene in enumerate(GENES)))
        given = ["finetune", "--config", settings(task="gene_classification", gene_labels=str(genes)), "--epochs", 1]
        given += ["--sweep", "training.optimizer.lr=1e-3", "--folds", 2, "--out", tmp_path / "out"]
        said = invoke(*given)
        heads = [load_bundle(run / "model").model_config.head for run in runs(tmp_path / "out")]
        held = [set(head.held_out_genes) for head in heads]
        assert held[0] | held[1] == set(GENES)
        assert not held[0] & held[1]
        assert all(not own & set(head.train_genes) for own, head in zip(held, heads, strict=True))
        assert "Held-out genes of 2 folds" in said
        assert "chosen on: the classes of training genes in held-out cells, not held-out genes" in said
        told = refused(*given, "--force", "--sweep", "finetune.held_out_genes=0.2,0.3")
        assert "which genes are held out is the sweep's own" in told


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "told"),
        [
            (("--sweep", "training.optimizer.lr"), "is not of the form section.setting=value,value"),
            (("--sweep", "training.optimizer.rate=1,2"), "unknown setting 'training.optimizer.rate'"),
            (("--sweep", "data.split.seed=1,2"), "folds and folders are the sweep's own"),
            (("--folds", 9), "--folds 9 is more than the 5 groups of obs column 'donor_id'"),
            (("--sweep", "training.lr=1e-3", "--dry-run"), "leave out --sweep"),
        ],
    )
    def test_one_line(self, more, told, base, cells, tmp_path):
        assert told in refused(*words(base, cells, tmp_path / "out", *more))
        assert not list(tmp_path.glob("out/*/fold_*"))


class TestFolds:
    @pytest.mark.parametrize("by", ["auto", "cells"])
    def test_each_cell_is_held_out_once(self, by, tmp_path):
        make_adata(50, 10).write_h5ad(tmp_path / "cells.h5ad")
        raw = {"data": {"paths": [str(tmp_path / "cells.h5ad")], "split": {"by": by}}}
        config = parse_config(raw, origin="test")
        source = open_source(config.data)
        folds = make_folds(source, config.data, 3)
        assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(50))
        for fold in folds:
            assert sorted([*fold.train, *fold.validation]) == list(range(50))
            if by == "auto":
                codes = source.obs("donor_id")[0]
                assert not {*codes[fold.train]} & {*codes[fold.validation]}
        source.close()


def test_settings_that_cannot_be_told_apart_are_said_to_be_so():
    result = SweepResult([Tried("a", {"m": [1.0, 2.0, 3.0]}), Tried("b", {"m": [3.0, 1.0, 2.5]})], "m", 3, "out")
    assert "it cannot be told apart from b on these folds" in result.closing_lines()
    apart = SweepResult([Tried("a", {"m": [1.0, 2.0, 3.0]}), Tried("b", {"m": [2.0, 3.0, 4.1]})], "m", 3, "out")
    assert not any("cannot" in line for line in apart.closing_lines())


def _half(values):
    return stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
