from __future__ import annotations

import logging
import signal
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge._errors import DataError, Interrupted, NotSaved
from scmodelforge.training._background import Background, wait_for_all
from scmodelforge.training._host import HostCopies
from scmodelforge.training._space import check_space, in_units
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit

from .parts import StandInLoader, StopAfter, curve, make_run, records, settings, weights, write_model
from .test_resume import KillAfter


class Slow:
    """Writes a model only when it is let: what stands between the snapshot and the disk."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.began = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self, folder, snapshot) -> None:
        self.thread = threading.current_thread()
        self.began.set()
        assert self.may_go_on.wait(10)
        write_model(folder, snapshot)


class Failing:
    """Cannot write the models of some steps, as on a full disk."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def __call__(self, folder, snapshot) -> None:
        write_model(folder, snapshot)
        if snapshot.progress.step in self.steps:
            raise OSError(28, "No space left on device")


def run_with(save_model, folder, **options):
    run = make_run(folder, **options)
    run.checkpoints = Checkpoints(folder / "checkpoints", save_top_k=1, save_model=save_model, config_hash="a" * 64)
    return run


class TestWritingBesideTraining:
    def test_takes_the_weights_of_its_step_while_training_goes_on(self, tmp_path):
        slow = Slow()
        run = run_with(slow, tmp_path)
        before = weights(run)
        target = run.checkpoints.save_soon(run)
        assert slow.began.wait(10)
        assert slow.thread is not threading.main_thread()
        assert not target.exists()
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.add_(1)
        slow.may_go_on.set()
        run.checkpoints.wait()
        written = load_file(target / "model" / "model.safetensors")
        assert all(torch.equal(before[name], value) for name, value in written.items())
        assert Checkpoints.find_last(run.checkpoints.folder) == target

    def test_is_waited_for_by_the_next_and_by_whoever_asks_for_the_best(self, tmp_path):
        slow = Slow()
        run = run_with(slow, tmp_path)
        run.checkpoints.save_soon(run)
        run.progress.step = 1
        run.validation, run.validation_step = {"val/loss": 1.0}, 1
        threading.Timer(0.1, slow.may_go_on.set).start()
        second = run.checkpoints.save_soon(run)
        assert run.checkpoints.path_of(0).exists()
        assert run.checkpoints.waits == 1
        assert run.checkpoints.seconds_blocked > 0.05
        assert run.checkpoints.best() == second

    def test_is_over_when_fit_ends(self, tmp_path):
        run = make_run(tmp_path)
        fit(run)
        assert run.checkpoints.last == run.checkpoints.path_of(9)
        assert Checkpoints.find_last(run.checkpoints.folder) == run.checkpoints.last

    def test_is_over_when_another_error_flies(self, tmp_path):
        slow = Slow()
        run = run_with(slow, tmp_path, save_every_n_steps=2)
        threading.Timer(0.2, slow.may_go_on.set).start()
        with pytest.raises(BaseException) as caught:
            fit(run, [KillAfter(3)])
        assert type(caught.value).__name__ == "Kill"
        assert Checkpoints.find_last(run.checkpoints.folder).name == "step_00000002"

    def test_that_fails_for_another_reason_than_the_disk_is_raised_as_it_is(self, tmp_path):
        def broken(folder, snapshot) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fit(run_with(broken, tmp_path))

    def test_asked_to_stop_meanwhile_saves_the_step_it_stops_at(self, tmp_path):
        def interrupt(folder, snapshot) -> None:
            if snapshot.progress.step == 3:
                assert threading.current_thread() is not threading.main_thread()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            write_model(folder, snapshot)

        run = run_with(interrupt, tmp_path)
        with pytest.raises(Interrupted, match="saved as") as caught:
            fit(run)
        assert str(caught.value).endswith(run.checkpoints.path_of(run.progress.step).name)
        assert Checkpoints.find_last(run.checkpoints.folder) == run.checkpoints.path_of(run.progress.step)


class TestFailures:
    def test_are_warnings_and_counted_and_training_goes_on(self, tmp_path, caplog):
        fit(make_run(tmp_path / "whole"))
        fit(run_with(Failing(3, 6), tmp_path / "run"))
        assert caplog.text.count("the checkpoint cannot be written (No space left on device)") == 2
        assert "tries again at the next one" in caplog.text
        assert "there is none so far" in caplog.text
        found = [r["checkpoint/failures"] for r in records(tmp_path / "run") if "checkpoint/failures" in r]
        assert found == [1, 2]
        assert [r for r in curve(tmp_path / "run") if "checkpoint/failures" not in r] == curve(tmp_path / "whole")
        assert Checkpoints.find_last(tmp_path / "run" / "checkpoints").name == "step_00000009"

    def test_three_in_a_row_end_the_run_and_name_what_is_kept(self, tmp_path):
        run = run_with(Failing(*range(2, 9)), tmp_path, save_every_n_steps=1)
        words = (
            r"stopped after step \d of 9, which is not saved. .*No space left.* The last checkpoint is .*step_00000001"
        )
        with pytest.raises(NotSaved, match=words):
            fit(run)
        assert [path.name for path in run.checkpoints.folder.glob("*step_*")] == ["step_00000001"]

    def test_are_counted_in_a_row_only(self, tmp_path):
        run = run_with(Failing(1, 2, 4, 5, 7, 8), tmp_path, save_every_n_steps=1)
        fit(run)
        assert run.checkpoints.failures == 6

    def test_of_the_last_step_are_errors_after_another_attempt(self, tmp_path):
        run = run_with(Failing(9), tmp_path)
        with pytest.raises(NotSaved, match=r"trained to step 9 of 9, which is not saved.*is .*step_00000006"):
            fit(run)
        assert run.checkpoints.failures == 2

    def test_when_asked_to_stop_with_nothing_saved_say_so(self, tmp_path):
        with pytest.raises(NotSaved, match=r"stopped after step 1 of 9, which is not saved.*There is no checkpoint"):
            fit(run_with(Failing(1), tmp_path), [StopAfter(1)])


class BrokenLoader(StandInLoader):
    """Reads some batches, then its file is gone."""

    def batch(self, step: int) -> list[dict]:
        if step == 4 and self.shuffle:
            raise DataError("cells.h5ad is gone.")
        return super().batch(step)


class TestDataThatFail:
    def test_in_the_middle_are_one_line_and_the_steps_done_are_saved(self, tmp_path):
        fit(make_run(tmp_path / "whole", dropout=0.3))
        run = make_run(tmp_path / "run", train_loader=BrokenLoader(), dropout=0.3)
        words = r"^cells.h5ad is gone. Training stopped after step 4 of 9; saved as .*step_00000004. Mend the data"
        with pytest.raises(DataError, match=words):
            fit(run)
        again = make_run(tmp_path / "run", dropout=0.3)
        again.checkpoints.load(again, Checkpoints.find_last(again.checkpoints.folder))
        again.metrics.truncate(again.progress.step)
        fit(again)
        assert curve(tmp_path / "run") == curve(tmp_path / "whole")

    def test_before_the_first_step_are_left_as_they_are(self, tmp_path):
        loader = BrokenLoader()
        loader.consumed = 4
        with pytest.raises(DataError, match=r"^cells.h5ad is gone.$"):
            fit(make_run(tmp_path, train_loader=loader))
        assert not (tmp_path / "checkpoints").exists()


class TestHostCopies:
    def test_take_the_place_of_those_before_where_they_fit(self):
        memory = HostCopies()
        first = [memory.copy(torch.ones(3)), memory.copy(torch.ones(2))]
        memory.restart()
        second = [memory.copy(torch.zeros(3)), memory.copy(torch.zeros(4))]
        assert second[0].data_ptr() == first[0].data_ptr()
        assert first[0].tolist() == [0, 0, 0]
        assert first[1].tolist() == [1, 1]
        assert second[1].tolist() == [0, 0, 0, 0]

    def test_are_contiguous_and_keep_the_type(self):
        source = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
        copied = HostCopies().copy(source)
        assert copied.is_contiguous()
        assert torch.equal(copied, source)


class TestSpace:
    def test_too_little_is_said_with_what_is_needed_and_free(self, tmp_path):
        check_space(tmp_path, 1000)
        with pytest.raises(OSError, match=r"it needs 1,050.0 TB, [\d.]+ .B are free in the file system of"):
            check_space(tmp_path, 10**15)

    @pytest.mark.parametrize(("size", "words"), [(0, "0.0 B"), (999, "999.0 B"), (1500, "1.5 kB"), (10**12, "1.0 TB")])
    def test_sizes_have_the_unit_that_suits_them(self, size, words):
        assert in_units(size) == words


def test_a_finished_run_has_nothing_under_way_and_no_failure(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = make_run(tmp_path, config=settings(max_epochs=1))
        fit(run)
    assert caplog.text == ""
    assert (run.checkpoints.failures, run.checkpoints.waits, run.checkpoints.problem) == (0, 0, None)


def test_work_under_way_is_waited_for_wherever_it_was_begun():
    done = []
    work = Background()
    work.start(lambda: (time.sleep(0.3), done.append(1)), name="slow")
    wait_for_all(10)
    assert done == [1]
    wait_for_all(0)
    assert work.wait() is None
