"""What training leaves for a report: the journal, the views of cells, where it was run; and how it is read."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess

import numpy as np
import pytest
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError, Interrupted
from scmodelforge.cli.main import app
from scmodelforge.workflows.journal import Journal, is_alive
from scmodelforge.workflows.provenance import git_state
from scmodelforge.workflows.run_record import RunRecord
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.views import SeenCells, ViewFolder

SETTINGS = """
data: {{paths: [{data}], gene_vocab: from_data, label_column: cell_type, batch_column: batch, split: {{by: cells}}}}
tokenizer: {{strategy: rank_value, max_genes: 16}}
model: {{architecture: transformer_encoder, hidden_dim: 16, num_layers: 1, num_heads: 2, max_seq_len: 16}}
training: {{batch_size: 8, max_epochs: 2, steps_per_epoch: 2, log_every_n_steps: 1}}
eval: {{benchmarks: [embedding_quality]}}
output: {{run_dir: {run}, tensorboard: false}}
"""


def seen(num: int = 30, width: int = 4, *, scale: float = 1.0) -> SeenCells:
    rng = np.random.default_rng(0)
    model = rng.normal(size=(num, width)) * scale
    return SeenCells("heldout", model, {"pca": model[:, :2]}, np.array(["a", "b", ""] * (num // 3)), None, "type", None)


def events(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]


class TestTraining:
    @pytest.fixture
    def run(self, tiny_h5ad, tmp_path):
        root = tmp_path / "run"
        (tmp_path / "run.yaml").write_text(SETTINGS.format(data=tiny_h5ad, run=root))
        result = CliRunner().invoke(app, ["train", str(tmp_path / "run.yaml")])
        assert result.exit_code == 0, result.output
        return root, result.output

    def test_a_run_can_be_read_and_reported(self, run):
        root, output = run
        assert f"report:  {root / 'report.html'}" in output
        assert (root / "report.html").read_text().startswith("<!DOCTYPE html>")
        record = RunRecord.read(root)
        assert (record.state, record.step, record.total_steps, record.damage) == ("finished", 4, 4, [])
        assert list(record.cells.steps) == [2, 4]
        assert set(record.cells.others) == {"pca", "untrained", "model"}
        assert len(record.cells.labels) == len(record.cells.batches) == record.cells.num_scored
        assert record.facts["num_parameters"] > 1000
        counts = record.facts["columns"]["label"]["categories"]
        assert sum(train for _, train, _ in counts) == record.facts["num_train"]
        assert sum(held for _, _, held in counts) == record.facts["num_validation"]
        exported = {r.metric: r.value for r in record.exported if r.representation == "model"}
        step = record.exported[0].step
        assert exported == {r.metric: r.value for r in record.results if r.representation == "model" and r.step == step}


def test_a_folder_with_all_that_a_report_needs_can_be_replaced(tmp_path):
    for name in ("report.html", "sessions.jsonl", "exported_results.jsonl", "run.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "views").mkdir()
    before = sorted(tmp_path.iterdir())
    folder = RunFolder(tmp_path, tmp_path / "checkpoints", tmp_path)
    folder.check_free(force=True)
    assert sorted(tmp_path.iterdir()) == before  # checked, not yet replaced
    with pytest.raises(ConfigError, match=r"is not empty\. Go on with that run: .* or replace it with --force\."):
        folder.check_free(force=False)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds 'notes\.txt'\); --force does not delete it"):
        folder.check_free(force=True)


class TestJournal:
    def test_notes_beginning_warnings_and_end(self, tmp_path):
        log = logging.getLogger("scmodelforge.something")
        with Journal() as journal:
            log.warning("before the folder")
            journal.begin(tmp_path, step=7)
            log.warning("after it")
            log.info("no warning")
        found = events(tmp_path)
        assert [e["event"] for e in found] == ["start", "warning", "warning", "end"]
        assert [e.get("text") for e in found[1:3]] == ["before the folder", "after it"]
        assert (found[0]["step"], found[-1]["outcome"]) == (7, "finished")
        log.warning("later ones are not its business")
        assert len(events(tmp_path)) == 4

    @pytest.mark.parametrize(("error", "outcome"), [(Interrupted("saved as x"), "interrupted"),
                                                    (RuntimeError("no\nmore"), "failed")])  # fmt: skip
    def test_notes_why_a_session_ended(self, tmp_path, error, outcome):
        def session() -> None:
            with Journal() as journal:
                journal.begin(tmp_path, step=0)
                raise error

        with pytest.raises(type(error)):
            session()
        assert events(tmp_path)[-1]["outcome"] == outcome
        assert events(tmp_path)[-1]["why"] == str(error).splitlines()[0]

    def test_a_run_that_never_began_leaves_nothing(self, tmp_path):
        with pytest.raises(RuntimeError), Journal():
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []

    def test_knows_which_processes_live(self, tmp_path):
        with Journal() as journal:
            journal.begin(tmp_path, step=0)
            start = events(tmp_path)[0]
        assert is_alive(start) is True
        assert is_alive({**start, "process_start": "another process of this number"}) is False
        assert is_alive({**start, "host": "elsewhere"}) is None
        child = subprocess.Popen(["true"])
        child.wait()
        assert is_alive({"host": socket.gethostname(), "pid": child.pid, "process_start": None}) is False


class TestViews:
    def test_what_is_kept_comes_back(self, tmp_path):
        cells, folder = seen(), ViewFolder(tmp_path / "views")
        for step in (10, 20):
            folder.keep(cells, step=step)
        folder.keep(cells, step=None)
        kept = folder.read()
        assert list(kept.steps) == [10, 20]
        np.testing.assert_allclose(kept.steps[10], cells.model, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(kept.labels, cells.labels)
        assert kept.batches is None
        folder.truncate(10)
        assert list(folder.read().steps) == [10]
        assert "model" not in folder.read().others

    def test_wide_embeddings_keep_their_distances(self, tmp_path):
        cells, folder = seen(num=45, width=200), ViewFolder(tmp_path / "views")
        folder.keep(cells, step=1)
        kept = folder.read().steps[1]
        assert kept.shape == (45, 50)  # 45 cells lie in 44 dimensions

        def distances(rows):
            return np.linalg.norm(rows[:, None] - rows[None], axis=2)

        np.testing.assert_allclose(distances(kept), distances(cells.model), rtol=5e-3, atol=5e-2)

    def test_numbers_too_large_for_16_bits_are_kept(self, tmp_path):
        cells, folder = seen(scale=1e6), ViewFolder(tmp_path / "views")
        folder.keep(cells, step=1)
        np.testing.assert_allclose(folder.read().steps[1], cells.model, rtol=1e-5)

    def test_many_cells_are_a_sample_of_every_label(self, tmp_path):
        cells, folder = seen(num=6000), ViewFolder(tmp_path / "views")
        folder.keep(cells, step=1)
        kept = folder.read()
        assert kept.num_scored == 6000
        assert {name: (kept.labels == name).sum() for name in ("a", "b", "")}.keys() == {"a", "b", ""}
        assert abs((kept.labels == "a").sum() - 2000 / 3) < 2
        assert (tmp_path / "views" / "step_00000001.safetensors").stat().st_size < 2000 * 50 * 2 + 1000

    def test_damage_is_named(self, tmp_path):
        folder = ViewFolder(tmp_path / "views")
        folder.keep(seen(), step=1)
        (tmp_path / "views" / "cells.json").write_text("{")
        with pytest.raises(DataError, match="views of the cells cannot be read"):
            folder.read()


class TestGit:
    def test_revision_and_changes(self, tmp_path):
        def git(*words: str) -> str:
            given = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
            return subprocess.run(given, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "-q")
        (tmp_path / "file").write_text("1")
        git("add", "file")
        git("commit", "-qm", "one")
        assert git_state(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
        (tmp_path / "file").write_text("2")
        assert git_state(tmp_path)["dirty"] is True

    def test_no_repository(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert git_state(tmp_path) is None

    def test_no_git(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", os.devnull)
        assert git_state(tmp_path) is None
