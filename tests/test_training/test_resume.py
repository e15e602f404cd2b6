from __future__ import annotations

import os
import random
import signal
import threading

import numpy as np
import pytest
import torch

from scmodelforge._errors import Interrupted
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit

from .parts import StopAfter, TwoTermModel, curve, make_run, settings, weights
from .test_checkpoint import Counting


class NoisyModel(TwoTermModel):
    """Has dropout, and draws from all generators of the host in training."""

    def __init__(self) -> None:
        super().__init__(dropout=0.3)

    def forward(self, input_ids, **batch):
        noise = torch.rand(()).item() + random.gauss(0, 1) + np.random.randn() if self.training else 0.0
        self.hidden.bias.data += 1e-3 * noise
        return super().forward(input_ids, **batch)


def unbroken(folder, **options):
    run = make_run(folder, model=NoisyModel, **options)
    callback = Counting()
    fit(run, [callback])
    return run, callback


class Kill(BaseException):
    """Ends a run at once, as a kill would."""


class KillAfter:
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run) -> None:
        if run.progress.step == self.step:
            raise Kill


class TestResumed:
    """A run of four epochs of three steps, broken at some step, goes on bit for bit as if it had not been."""

    CONFIG = settings(max_epochs=4)

    def assert_same(self, tmp_path, run, callback) -> None:
        expected, counted = unbroken(tmp_path / "unbroken", config=self.CONFIG)
        assert curve(tmp_path / "run") == curve(tmp_path / "unbroken")
        assert all(torch.equal(value, weights(expected)[name]) for name, value in weights(run).items())
        assert run.progress == expected.progress
        assert callback.steps == counted.steps == 12

    def go_on(self, tmp_path):
        run, callback = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG), Counting()
        run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder), [callback])
        run.metrics.truncate(run.progress.step)
        fit(run, [callback])
        return run, callback

    @pytest.mark.parametrize("step", [1, 3, 5, 6, 11])
    def test_after_a_stop_request_equals_the_unbroken_run(self, tmp_path, step):
        run = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG)
        with pytest.raises(Interrupted, match=rf"stopped after step {step} of 12; saved as .*step_{step:08d}"):
            fit(run, [Counting(), StopAfter(step)])
        assert max(record["step"] for record in curve(tmp_path / "run")) == step
        self.assert_same(tmp_path, *self.go_on(tmp_path))

    @pytest.mark.parametrize("step", [5, 7])
    def test_after_a_kill_equals_the_unbroken_run(self, tmp_path, step):
        run = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG, save_every_n_steps=2)
        with pytest.raises(Kill):
            fit(run, [Counting(), KillAfter(step)])
        self.assert_same(tmp_path, *self.go_on(tmp_path))

    def test_twice_equals_the_unbroken_run(self, tmp_path):
        run = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG)
        with pytest.raises(Interrupted):
            fit(run, [Counting(), StopAfter(2)])
        run, callback = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG), Counting()
        run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder), [callback])
        with pytest.raises(Interrupted):
            fit(run, [callback, StopAfter(7)])
        self.assert_same(tmp_path, *self.go_on(tmp_path))

    def test_from_the_checkpoint_before_a_damaged_one_equals_the_unbroken_run(self, tmp_path):
        run = make_run(tmp_path / "run", model=NoisyModel, config=self.CONFIG)
        with pytest.raises(Interrupted):
            fit(run, [Counting(), StopAfter(8)])
        (run.checkpoints.path_of(8) / "state.json").write_text("{}")
        self.assert_same(tmp_path, *self.go_on(tmp_path))
        assert not run.checkpoints.path_of(8).exists()

    def test_when_it_was_finished_does_nothing_more(self, tmp_path):
        unbroken(tmp_path / "run", config=self.CONFIG)
        before = curve(tmp_path / "run")
        run, _ = self.go_on(tmp_path)
        assert curve(tmp_path / "run") == before
        assert run.progress.step == 12


class Signals:
    """Sends signals to this process after some step."""

    def __init__(self, step: int, *numbers: int) -> None:
        self.step, self.numbers = step, numbers

    def on_step_end(self, run) -> None:
        if run.progress.step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_save_and_stop_at_the_end_of_the_step(self, tmp_path, caplog, number):
        run = make_run(tmp_path)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped after step 4 of 9"):
            fit(run, [Signals(4, number)])
        assert Checkpoints.find_last(tmp_path / "checkpoints").name == "step_00000004"
        assert "saving and stopping at the end of this step" in caplog.text
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers

    def test_at_the_end_of_an_epoch_come_after_its_validation_and_save_once(self, tmp_path):
        run = make_run(tmp_path)
        with pytest.raises(Interrupted):
            fit(run, [Signals(3, signal.SIGINT)])
        assert run.validation_step == 3
        assert run.checkpoints.best() == run.checkpoints.path_of(3)

    def test_a_second_ctrl_c_stops_at_once(self, tmp_path):
        run = make_run(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            fit(run, [Signals(4, signal.SIGINT, signal.SIGINT)])
        assert not run.checkpoints.path_of(4).exists()
        assert run.train_loader.is_closed

    def test_without_checkpoints_say_that_nothing_was_saved(self):
        with pytest.raises(Interrupted, match="stopped after step 1 of 9; nothing was saved"):
            fit(make_run(), [Signals(1, signal.SIGINT)])

    def test_are_left_alone_outside_the_main_thread(self):
        run, failures = make_run(), []

        def work() -> None:
            try:
                fit(run)
            except ValueError as problem:  # what signal.signal raises there
                failures.append(problem)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert failures == []
        assert run.progress.step == 9

    def test_of_an_earlier_fit_do_not_stop_the_next(self):
        run = make_run()
        with pytest.raises(Interrupted):
            fit(run, [StopAfter(2)])
        fit(run)
        assert run.progress.step == 9
