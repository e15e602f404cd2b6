"""A frozen base model: its cells are embedded once, and what is frozen has no dropout."""

from __future__ import annotations

import json
import os
import signal

import anndata as ad
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from scmodelforge import tl
from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle
from scmodelforge.models.fine_tuned import FineTunedConfig, FineTuneModel
from scmodelforge.models.fine_tuned_heads import Seen
from scmodelforge.training import loop
from scmodelforge.training.unfreezing import Unfreezing
from scmodelforge.workflows import frozen_cells
from scmodelforge.workflows.adapted_training import RATES
from tests.test_finetuning.test_command import refused, words
from tests.test_life_cycle import invoke, losses

MORE = ("--adaptation", "frozen", "--epochs", 3, "--lr", 1e-2, "--eval", "", "--set", "finetune.head.dropout=0.3")


def validation(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["val/loss"] for record in records if "val/loss" in record]


@pytest.fixture(scope="module")
def run(base, cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("frozen") / "run"
    invoke(*words(base, cells, out, *MORE))
    return out


class TestCached:
    def test_losses_are_those_without_a_cache(self, run, base, cells, tmp_path, monkeypatch):
        monkeypatch.setattr(frozen_cells.FrozenCells, "__call__", lambda self, tokens: self._objective(tokens))
        invoke(*words(base, cells, tmp_path / "run", *MORE))
        cached, plain = losses(run), losses(tmp_path / "run")
        assert cached.keys() == plain.keys()
        assert max(abs(cached[step] - plain[step]) for step in plain) < 1e-6
        assert validation(run) == pytest.approx(validation(tmp_path / "run"), abs=1e-6)

    def test_the_backbone_runs_once_for_each_cell(self, base, cells, tmp_path, monkeypatch):
        seen = []
        real = FineTuneModel.encode

        def count(model, input_ids, *args, **more):
            seen.append(len(input_ids))
            return real(model, input_ids, *args, **more)

        monkeypatch.setattr(FineTuneModel, "encode", count)
        invoke(*words(base, cells, tmp_path / "run", *MORE))
        assert 80 <= sum(seen) < 80 + 3 * 16  # the last batches are filled up; three epochs would be 240

    def test_the_base_model_stays_as_it_is(self, run, base):
        before = load_file(base / "model" / "model.safetensors")
        after = load_file(run / "model" / "model.safetensors")
        kept = {name.removeprefix("backbone."): t for name, t in after.items() if name.startswith("backbone.")}
        assert kept
        assert all(torch.equal(kept[name], before[name]) for name in kept)

    def test_resumed_equals_unbroken(self, run, base, cells, tmp_path, monkeypatch):
        real = loop.Progress.__setattr__

        def stop_at(progress, name, value):
            real(progress, name, value)
            if name == "step" and value == 5:
                os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Progress, "__setattr__", stop_at)
            result = CliRunner().invoke(app, words(base, cells, tmp_path / "run", *MORE))
        assert result.exit_code == 1, result.output
        invoke("finetune", "--resume", tmp_path / "run")
        assert losses(tmp_path / "run") == losses(run)
        weights = "model/model.safetensors"
        assert (tmp_path / "run" / weights).read_bytes() == (run / weights).read_bytes()

    def test_a_head_on_the_first_token_needs_the_model(self, base, cells, tmp_path, monkeypatch):
        more = ("--set", "finetune.head.pooling=first")
        monkeypatch.setattr(frozen_cells.FrozenCells, "__init__", lambda *given: pytest.fail("it is not read"))
        invoke(*words(base, cells, tmp_path / "run", *MORE, *more))


class TestStandardised:
    """Embeddings of which nearly all is the same in each cell, as those of models trained briefly are."""

    def heads(self, standardised):
        config = FineTunedConfig(
            backbone={"hidden_dim": 16, "num_layers": 1, "num_heads": 2},
            vocab_size=34,
            num_cell_types=3,
            head={"standardised": standardised, "dropout": 0.0},
        )
        torch.manual_seed(0)
        return FineTuneModel(config).head

    def learned(self, head, cells, types, *, steps=150):
        optimizer = torch.optim.AdamW(head.parameters(), lr=RATES["frozen"])
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(Seen(cells, None, {}, head)), types).backward()
            optimizer.step()
        return float((head(Seen(cells, None, {}, head)).argmax(dim=1) == types).float().mean())

    def test_a_head_learns_what_a_thousandth_of_them_says(self):
        draw = torch.Generator().manual_seed(0)
        types = torch.arange(90) % 3
        own = torch.randn(3, 16, generator=draw)[types] + 0.3 * torch.randn(90, 16, generator=draw)
        cells = 10 * torch.randn(16, generator=draw) + 0.01 * own
        head = self.heads(True)
        head.scale.fit(cells.numpy())
        assert self.learned(head, cells, types) == 1
        assert self.learned(self.heads(False), cells, types) < 0.9

    def test_a_constant_column_is_not_divided(self):
        head = self.heads(True)
        rows = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
        rows[:, 3] = 7.1
        head.scale.fit(rows.numpy())
        found = head.scale(rows)
        assert found[:, 3].abs().max() < 1e-5
        assert found.std(dim=0, correction=0)[:3] == pytest.approx(1, abs=1e-5)

    def test_it_is_that_of_training_cells_and_saved(self, run, base, cells):
        adata = ad.read_h5ad(cells)
        tl.embed(adata, base)
        spans = json.loads((run / "splits.json").read_text())["train"]
        train = np.concatenate([np.arange(*span) for span in spans])
        assert 0 < len(train) < len(adata)
        rows = adata.obsm["X_scmodelforge"][train]
        scale = load_bundle(run / "model").model.head.scale
        assert scale.mean == pytest.approx(rows.mean(axis=0), abs=1e-5)
        assert scale.sd == pytest.approx(rows.std(axis=0), abs=1e-5)

    def test_a_head_that_learned_nothing_is_told_of_at_the_end(self, base, cells, tmp_path):
        more = ("--adaptation", "frozen", "--epochs", 1, "--lr", 1e-9, "--set", "eval.baselines=[random]")
        output = invoke(*words(base, cells, tmp_path / "run", *more))
        assert "warning: the head names" in output
        assert "it learned nothing" in output

    def test_what_is_trained_has_none(self, base, cells, tmp_path):
        line = refused(*words(base, cells, tmp_path / "run", "--set", "finetune.head.standardised=true"))
        assert "finetune.head.standardised is set, but embeddings change in training" in line


class TestModes:
    @pytest.mark.parametrize("adaptation", ["frozen", "last_n", "gradual"])
    def test_what_is_frozen_has_no_dropout_and_what_is_trained_has(
        self, adaptation, base, cells, tmp_path, monkeypatch
    ):
        modes = []
        real = Unfreezing.on_epoch_end

        def look(callback, run):
            for module in run.model.modules():
                parameters = list(module.parameters())
                if parameters:
                    modes.append((module.training, any(p.requires_grad for p in parameters)))
            return real(callback, run)

        monkeypatch.setattr(Unfreezing, "on_epoch_end", look)
        own = {"last_n": ("--set", "finetune.last_layers=1")}.get(adaptation, ())
        invoke(*words(base, cells, tmp_path / "run", "--adaptation", adaptation, "--epochs", 4, "--eval", "", *own))
        assert all(training == trained for training, trained in modes)
        assert {True, False} <= {training for training, _ in modes}
