from __future__ import annotations

import json
import re
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit

from .parts import StandInLoader, TwoTermModel, make_run, settings, weights, write_model


def steps(folder) -> list[int]:
    return sorted(int(path.name[5:]) for path in folder.glob("step_*"))


@pytest.fixture
def run(tmp_path):
    """Return a finished run of three epochs of three steps."""
    run = make_run(tmp_path, dropout=0.3)
    fit(run)
    return run


@pytest.fixture
def folder(run):
    return run.checkpoints.folder


class TestFiles:
    def test_are_complete_and_the_manifest_lists_them_all(self, folder):
        last = folder / "step_00000009"
        found = {path.relative_to(last).as_posix() for path in last.rglob("*") if path.is_file()}
        assert found == {"model/model.safetensors", "state.safetensors", "state.json", "MANIFEST.json"}
        assert set(json.loads((last / "MANIFEST.json").read_text())["files"]) == found - {"MANIFEST.json"}
        assert (folder / "last").read_text() == "step_00000009\n"

    def test_nothing_else_is_left_in_the_folder(self, folder):
        left = {path.name for path in folder.iterdir() if not path.name.startswith("step_")}
        assert left == {"last", "best", "epoch_end.json"}

    def test_none_is_a_pickle(self, folder):
        for path in folder.rglob("*"):
            if path.is_file():
                assert not zipfile.is_zipfile(path)
                assert not path.read_bytes().startswith(b"\x80")
                if path.suffix == ".safetensors":
                    load_file(path)
                elif path.suffix == ".json":
                    json.loads(path.read_text())

    def test_optimizer_state_is_named_by_parameter_and_tied_ones_come_once(self, run, folder):
        names = set(load_file(folder / "step_00000009" / "state.safetensors"))
        parameters = dict(run.model.named_parameters())
        assert "genes.weight" not in parameters
        expected = {f"{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in parameters}
        assert names == expected | {"rng.0.python", "rng.0.numpy", "rng.0.torch"}
        assert "genes.weight" not in load_file(folder / "step_00000009" / "model" / "model.safetensors")

    def test_state_says_where_the_run_is_and_what_wrote_it(self, folder):
        state = json.loads((folder / "step_00000009" / "state.json").read_text())
        assert state["progress"] == {"step": 9, "epoch": 3, "cells": 60, "is_epoch_open": True}
        assert state["loader"] == {"consumed": 9}
        assert state["config_hash"] == "a" * 64
        assert state["versions"]["torch"] == torch.__version__


class TestWhichAreKept:
    def saved(self, tmp_path, losses: list[float | None], top_k: int) -> Checkpoints:
        """Return checkpoints saved after each step with the given validation losses."""
        run = make_run(tmp_path, save_top_k=top_k)
        for step, loss in enumerate(losses, start=1):
            run.progress.step = step
            if loss is not None:
                run.validation, run.validation_step = {"val/loss": loss}, step
            run.checkpoints.save(run)
        return run.checkpoints

    @pytest.mark.parametrize(
        ("top_k", "kept", "best"),
        [(0, {5, 6}, None), (1, {2, 5, 6}, 2), (2, {2, 3, 5, 6}, 2), (9, {1, 2, 3, 4, 5, 6}, 2)],
    )
    def test_the_best_by_validation_and_the_last_with_the_one_before(self, tmp_path, top_k, kept, best):
        checkpoints = self.saved(tmp_path, [5.0, 1.0, 2.0, 2.0, 4.0, 6.0], top_k)
        assert set(steps(checkpoints.folder)) == kept
        assert (checkpoints.folder / "last").read_text() == "step_00000006\n"
        file = checkpoints.folder / "best"
        assert (file.read_text() if file.exists() else None) == (best and f"step_{best:08d}\n")

    def test_best_is_the_lowest_of_those_there_are(self, tmp_path):
        checkpoints = self.saved(tmp_path, [3.0, 1.0, 1.0, 2.0], 2)
        assert checkpoints.best() == checkpoints.path_of(2)
        shutil.rmtree(checkpoints.path_of(2))
        assert checkpoints.best() == checkpoints.path_of(3)

    def test_one_not_validated_at_its_step_or_without_a_finite_loss_is_never_best(self, tmp_path):
        checkpoints = self.saved(tmp_path, [2.0, None, float("nan")], 3)
        assert checkpoints.best() == checkpoints.path_of(1)

    def test_one_not_validated_at_its_step_takes_no_place_of_the_best(self, tmp_path):
        checkpoints = self.saved(tmp_path, [2.0, None, 3.0, 4.0, 5.0], 2)
        assert steps(checkpoints.folder) == [1, 3, 4, 5]

    def test_without_validation_there_is_no_best(self, tmp_path):
        assert self.saved(tmp_path, [None, None, None], 2).best() is None

    def test_a_run_saves_at_the_end_of_epochs_and_every_n_steps(self, tmp_path):
        fit(make_run(tmp_path, save_top_k=99, save_every_n_steps=2, config=settings(max_epochs=2)))
        with_val = {3, 6}
        assert set(steps(tmp_path / "checkpoints")) == with_val | {4}  # 2 was neither best nor recent in the end

    def test_may_be_by_another_score_with_one_after_each_evaluation(self, tmp_path):
        class Evaluation:
            def on_step_end(self, run) -> None:
                if run.progress.step % 2 == 0:
                    run.scores_step = run.progress.step

        values = {2: 5.0, 3: 9.0, 4: 1.0, 6: 3.0}
        run = make_run(tmp_path, config=settings(max_epochs=2))
        run.checkpoints = Checkpoints(
            tmp_path / "checkpoints",
            save_top_k=1,
            save_model=write_model,
            config_hash="a" * 64,
            scores=lambda paths: {path: values[int(path.name[-2:])] for path in paths},
            follows_evaluation=True,
        )
        fit(run, [Evaluation()])
        assert run.checkpoints.best() == run.checkpoints.path_of(4)
        assert (tmp_path / "checkpoints" / "best").read_text() == "step_00000004\n"
        assert set(steps(tmp_path / "checkpoints")) == {4, 6}


class TestFindLast:
    def test_is_the_one_with_the_highest_step(self, folder):
        assert Checkpoints.find_last(folder) == folder / "step_00000009"

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda p: flip_a_bit(p / "state.safetensors"), "state.safetensors does not match its checksum"),
            (lambda p: flip_a_bit(p / "model" / "model.safetensors"), "model.safetensors does not match its checksum"),
            (lambda p: truncate(p / "state.json"), r"state.json has [\d,]+ of [\d,]+ bytes"),
            (lambda p: (p / "state.json").unlink(), "state.json is missing"),
            (lambda p: (p / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
            (lambda p: truncate(p / "MANIFEST.json"), "MANIFEST.json is damaged"),
        ],
    )
    def test_skips_a_damaged_one_and_says_which_file(self, folder, caplog, damage, words):
        damage(folder / "step_00000009")
        assert Checkpoints.find_last(folder) == folder / "step_00000006"
        assert len(caplog.records) == 1
        assert re.search(rf"step_00000009 is damaged \(.*{words}", caplog.text)

    def test_ignores_what_a_kill_left_of_a_write(self, run, folder):
        shutil.copytree(folder / "step_00000009", folder / ".writing_step_00000012")
        (folder / ".writing_step_00000012" / "MANIFEST.json").unlink()
        assert Checkpoints.find_last(folder) == folder / "step_00000009"
        run.checkpoints.save(run)
        assert not (folder / ".writing_step_00000012").exists()

    def test_with_none_left_is_an_error(self, folder, tmp_path):
        for path in folder.glob("step_*"):
            flip_a_bit(path / "state.safetensors")
        with pytest.raises(DataError, match="checkpoints: all 2 checkpoints are damaged, so the run cannot be resumed"):
            Checkpoints.find_last(folder)
        with pytest.raises(DataError, match="nowhere: there is no checkpoint"):
            Checkpoints.find_last(tmp_path / "nowhere")


class TestWriting:
    def test_replaces_a_damaged_one_of_the_same_step(self, run, folder):
        flip_a_bit(folder / "step_00000009" / "state.safetensors")
        run.checkpoints.save(run)
        assert Checkpoints.find_last(folder) == folder / "step_00000009"

    def test_removes_the_later_ones_of_a_way_the_run_did_not_take(self, run, folder):
        shutil.copytree(folder / "step_00000009", folder / "step_00000012")
        run.checkpoints.save(run)
        assert steps(folder) == [6, 9]

    def test_that_fails_leaves_the_earlier_ones_and_no_rest(self, tmp_path, run, folder):
        def broken(path, snapshot):
            write_model(path, snapshot)
            raise OSError(28, "No space left on device")

        before = sorted(folder.rglob("*"))
        checkpoints = Checkpoints(folder, save_top_k=1, save_model=broken, config_hash="a" * 64)
        run.progress.step = 10
        with pytest.raises(DataError, match=r"step_00000010: the checkpoint cannot be written .*No space left"):
            checkpoints.save(run)
        assert sorted(folder.rglob("*")) == before

    def test_where_a_folder_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "checkpoints").write_text("a file")
        run = make_run(tmp_path)
        with pytest.raises(DataError, match="step_00000000: the checkpoint cannot be written"):
            run.checkpoints.save(run)


class TestLoad:
    def test_restores_weights_and_keeps_tied_ones_tied(self, run, folder):
        other = make_run()
        run.checkpoints.load(other, folder / "step_00000009")
        assert all(torch.equal(value, weights(run)[name]) for name, value in weights(other).items())
        assert other.model.genes.weight is other.model.embedding.weight
        assert other.validation == run.validation

    def test_refuses_other_settings(self, tmp_path, folder):
        other = make_run(tmp_path, config_hash="b" * 64)
        with pytest.raises(ConfigError, match=r"step_00000009 was written with other settings \(hash aaaaaaaaaaaa\)"):
            other.checkpoints.load(other, folder / "step_00000009")

    def test_refuses_another_model(self, run, folder):
        class Wider(TwoTermModel):
            def __init__(self) -> None:
                super().__init__()
                self.more = torch.nn.Linear(2, 2)

        other = make_run(model=Wider)
        with pytest.raises(DataError, match=r"cannot be read into this run \(.*more.weight"):
            run.checkpoints.load(other, folder / "step_00000009")

    def test_refuses_what_is_no_checkpoint(self, run, tmp_path):
        other = make_run()
        with pytest.raises(DataError, match="elsewhere: the checkpoint cannot be read into this run"):
            run.checkpoints.load(other, tmp_path / "elsewhere")

    def test_warns_about_the_state_of_a_callback_that_is_gone(self, tmp_path, caplog):
        fit(make_run(tmp_path, config=settings(max_epochs=1)), [Counting(), Counting()])
        other = make_run(tmp_path, train_loader=StandInLoader())
        kept = Counting()
        other.checkpoints.load(other, other.checkpoints.path_of(3), [kept])
        assert kept.steps == 3
        assert "state of callbacks this run does not have: Counting-2" in caplog.text


class Counting:
    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, run) -> None:
        self.steps += 1

    def state_dict(self) -> dict:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
