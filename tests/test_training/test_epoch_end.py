"""The callbacks of an epoch's end come after its checkpoint: what breaks them off costs no step and leaves no trace."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from scmodelforge.config.schema import EarlyStoppingConfig, EmaConfig
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.early_stopping import with_early_stopping
from scmodelforge.training.loop import fit

from .parts import curve, make_run, settings, weights
from .test_resume import Kill, NoisyModel

CONFIG = settings(max_epochs=4, ema=EmaConfig(decay=0.5))


class Evaluation:
    """Looks at the model after each epoch, logs a figure of it, and remembers how many there were."""

    def __init__(self, *, killed_at: int | None = None, before: bool = True) -> None:
        self.seen: list[int] = []
        self.killed_at, self.before = killed_at, before

    def on_epoch_end(self, run) -> None:
        step = run.progress.step
        if step == self.killed_at and self.before:
            self.kill(run)
        self.seen.append(step)
        torch.rand(3)
        value = sum(parameter.double().sum().item() for parameter in run.model.parameters())
        run.metrics.log(step, {"eval/sum": value, "eval/count": len(self.seen)})
        run.scores, run.scores_step = {"eval/sum": value, "eval/count": len(self.seen)}, step
        if step == self.killed_at:
            self.kill(run)

    def kill(self, run) -> None:
        run.checkpoints.wait()  # a kill before it is written costs the steps since the one before, as any
        raise Kill

    def state_dict(self) -> dict:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.seen = list(state["seen"])


class KillAtStep:
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run) -> None:
        if run.progress.step == self.step:
            raise Kill


def go_on(folder, *callbacks, config=CONFIG):
    run = make_run(folder, model=NoisyModel, config=config)
    run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder), callbacks)
    at = run.progress.step
    run.metrics.truncate(at)
    fit(run, callbacks)
    return at, run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    run, evaluation = make_run(folder, model=NoisyModel, config=CONFIG), Evaluation()
    fit(run, [evaluation])
    assert evaluation.seen == [3, 6, 9, 12]
    return folder, run


def assert_same(folder, run, unbroken) -> None:
    assert curve(folder) == curve(unbroken[0])
    assert all(torch.equal(value, weights(unbroken[1])[name]) for name, value in weights(run).items())
    assert run.progress == unbroken[1].progress


class TestKilledInTheEvaluation:
    @pytest.mark.parametrize("before", [True, False], ids=["before it logs", "when it has logged"])
    @pytest.mark.parametrize("step", [3, 6, 12])
    def test_costs_no_step_and_is_done_again_once(self, tmp_path, unbroken, step, before):
        evaluation = Evaluation(killed_at=step, before=before)
        with pytest.raises(Kill):
            fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [evaluation])
        again = Evaluation()
        at, run = go_on(tmp_path, again)
        assert at == step
        assert again.seen == [3, 6, 9, 12]
        assert_same(tmp_path, run, unbroken)

    def test_twice_in_the_same_one_is_as_once(self, tmp_path, unbroken):
        with pytest.raises(Kill):
            fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [Evaluation(killed_at=6, before=False)])
        with pytest.raises(Kill):
            go_on(tmp_path, Evaluation(killed_at=6, before=False))
        at, run = go_on(tmp_path, Evaluation())
        assert at == 6
        assert_same(tmp_path, run, unbroken)


class TestKilledAfterTheEvaluation:
    def test_it_is_not_done_again(self, tmp_path, unbroken):
        with pytest.raises(Kill):
            fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [Evaluation(), KillAtStep(8)])
        again = Evaluation()
        at, run = go_on(tmp_path, again, OnlyLater())
        assert at == 6
        assert again.seen == [3, 6, 9, 12]
        assert_same(tmp_path, run, unbroken)

    def test_of_a_finished_run_nothing_is_done_again(self, tmp_path):
        fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [Evaluation()])
        before = curve(tmp_path)
        again = Evaluation(killed_at=12)  # were it called
        go_on(tmp_path, again)
        assert again.seen == [3, 6, 9, 12]
        assert curve(tmp_path) == before

    def test_but_gone_on_from_an_earlier_checkpoint_all_of_them_are(self, tmp_path, unbroken):
        with pytest.raises(Kill):
            fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [Evaluation(), KillAtStep(7)])
        (tmp_path / "checkpoints" / "step_00000006" / "state.json").write_text("{}")
        with pytest.raises(Kill):  # the epoch is over once more, its checkpoint written, its evaluation not
            go_on(tmp_path, Evaluation(killed_at=6))
        again = Evaluation()
        at, run = go_on(tmp_path, again)
        assert at == 6
        assert again.seen == [3, 6, 9, 12]
        assert_same(tmp_path, run, unbroken)


class OnlyLater:
    """Fails if the end of the second epoch comes again."""

    def on_epoch_end(self, run) -> None:
        assert run.progress.step > 6


class TestEarlyStopping:
    def test_by_what_the_evaluation_gives_holds_when_that_was_broken_off(self, tmp_path):
        stopping = EarlyStoppingConfig(metric="eval/count", mode="min", patience=2)

        def callbacks(**options):
            return with_early_stopping(stopping, [Evaluation(**options)])

        fit(make_run(tmp_path / "unbroken", model=NoisyModel, config=CONFIG), callbacks())
        with pytest.raises(Kill):
            fit(make_run(tmp_path / "run", model=NoisyModel, config=CONFIG), callbacks(killed_at=9))
        at, run = go_on(tmp_path / "run", *callbacks())
        assert (at, run.progress.step) == (9, 9)  # the evaluation was the last
        assert curve(tmp_path / "run") == curve(tmp_path / "unbroken")
        at, run = go_on(tmp_path / "run", *callbacks(killed_at=9))
        assert run.progress.step == 9


class TestOrder:
    def test_the_line_of_an_epoch_comes_before_what_its_end_says(self, tmp_path, caplog):
        caplog.set_level("INFO")

        class Says:
            def on_epoch_end(self, run) -> None:
                logging.getLogger("scmodelforge.says").info(f"end of {run.progress.epoch}")

        fit(make_run(tmp_path, config=settings(max_epochs=2, log_every_n_steps=3)), [Says()])
        lines = [record.getMessage()[:9] for record in caplog.records]
        assert lines == ["epoch 1/2", "end of 1", "epoch 2/2", "end of 2"]


def test_the_file_that_cannot_be_written_costs_an_evaluation_only(tmp_path, unbroken):
    (tmp_path / "checkpoints" / "epoch_end.json").mkdir(parents=True)
    with pytest.raises(Kill):
        fit(make_run(tmp_path, model=NoisyModel, config=CONFIG), [Evaluation(), KillAtStep(8)])
    again = Evaluation()
    _, run = go_on(tmp_path, again)
    assert again.seen == [3, 6, 9, 12]
    assert_same(tmp_path, run, unbroken)


def test_a_checkpoint_that_knows_nothing_of_it_is_of_a_version_that_saved_last(tmp_path):
    run = make_run(tmp_path, model=NoisyModel, config=settings(max_epochs=1))
    fit(run)
    path = run.checkpoints.path_of(3)
    state = json.loads((path / "state.json").read_text())
    assert state["progress"].pop("is_epoch_open")
    (path / "state.json").write_text(json.dumps(state))
    again, evaluation = make_run(tmp_path, model=NoisyModel, config=settings(max_epochs=1)), Evaluation()
    again.checkpoints.load(again, path, [evaluation])
    fit(again, [evaluation])
    assert evaluation.seen == []
