"""When a run ends early, and that it stays so."""

from __future__ import annotations

import math

import pytest

from scmodelforge._errors import ConfigError, Interrupted
from scmodelforge.config.schema import EarlyStoppingConfig, OptimizerConfig, SchedulerConfig
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.early_stopping import EarlyStopping, with_early_stopping
from scmodelforge.training.loop import fit

from .parts import StopAfter, curve, make_run, settings, weights

#: A rate so high that the loss is soon at its lowest.
CONFIG = settings(max_epochs=30, optimizer=OptimizerConfig(lr=0.1), scheduler=SchedulerConfig(name="constant"))


class Scores:
    """Stands in for an evaluation: gives the next value of a benchmark every ``every`` epochs."""

    def __init__(self, values: list[float], *, every: int = 1) -> None:
        self.values, self.every = values, every
        self.seen_last: list[int] = []

    def on_epoch_end(self, run) -> None:
        if run.ends_early:
            self.seen_last.append(run.progress.epoch)
        if run.progress.epoch % self.every == 0:
            number = run.progress.epoch // self.every - 1
            run.scores, run.scores_step = {"eval/knn": self.values[number]}, run.progress.step


def epochs_of(values: list[float], *, every: int = 1, **options) -> int:
    """Return the epochs a run takes whose benchmark has these values."""
    run = make_run(config=settings(max_epochs=len(values) * every))
    stopping = EarlyStoppingConfig(metric="eval/knn", **options)
    fit(run, with_early_stopping(stopping, [Scores(values, every=every)]))
    return run.progress.epoch


class TestWhen:
    @pytest.mark.parametrize(
        ("values", "options", "expected"),
        [
            ([1, 2, 3, 4, 5], {"mode": "max", "patience": 1}, 5),
            ([1, 2, 2, 4, 5], {"mode": "max", "patience": 1}, 3),  # the same again is no improvement
            ([5, 4, 4.5, 3, 3.5, 3.4, 1], {"mode": "min", "patience": 2}, 6),
            ([5, 4, 4.5, 3, 3.5, 3.4, 1], {"mode": "min", "patience": 3}, 7),
            ([5, 4.9, 4.8, 4.7, 4.6], {"mode": "min", "patience": 2, "min_delta": 0.25}, 3),
            ([5, 4.9, 4.7, 4.6, 4.4], {"mode": "min", "patience": 2, "min_delta": 0.25}, 5),  # 5, 4.7 and 4.4
            ([math.nan, math.nan, 1, math.nan, math.nan, 9], {"mode": "min", "patience": 3}, 6),
            ([1, math.nan, math.nan, 0], {"mode": "min", "patience": 2}, 3),
        ],
    )
    def test_is_after_patience_epochs_without_improvement(self, values, options, expected):
        assert epochs_of(values, **options) == expected

    def test_counts_only_epochs_that_were_evaluated(self):
        assert epochs_of([3, 4, 5, 2], every=2, mode="min", patience=2) == 6

    def test_of_the_validation_loss_is_that_of_the_logged_one(self, tmp_path):
        config = CONFIG.model_copy(update={"early_stopping": EarlyStoppingConfig(patience=2)})
        run = make_run(tmp_path, config=config)
        fit(run, with_early_stopping(config.early_stopping, []))
        losses = [record["val/loss"] for record in curve(tmp_path) if "val/loss" in record]
        assert 3 <= run.progress.epoch < 30
        best = min(losses)
        assert losses.index(best) == len(losses) - 3  # two epochs after the best
        waits = 0
        for number, loss in enumerate(losses[:-1]):
            waits = 0 if loss < min([math.inf, *losses[:number]]) else waits + 1
            assert waits < 2  # and never before


class TestEnd:
    def test_is_known_to_those_that_evaluate_in_that_epoch(self):
        scores = Scores([0.0] * 30)
        run = make_run(config=CONFIG)
        fit(run, with_early_stopping(EarlyStoppingConfig(patience=1), [scores]))
        assert scores.seen_last == [run.progress.epoch]
        assert run.progress.epoch < 30

    def test_is_normal_and_says_so(self, tmp_path, caplog):
        class Ends:
            count = 0

            def on_fit_end(self, run) -> None:
                self.count += 1

        caplog.set_level("INFO")
        run, ends = make_run(tmp_path, config=CONFIG), Ends()
        fit(run, with_early_stopping(EarlyStoppingConfig(patience=1), [ends]))
        assert ends.count == 1
        assert run.checkpoints.path_of(run.progress.step).exists()
        (line,) = [record.message for record in caplog.records if "stopped early" in record.message]
        assert line.startswith(f"stopped early after epoch {run.progress.epoch}/30: val/loss is ")

    def test_of_a_resumed_run_is_that_of_the_unbroken_one(self, tmp_path):
        stopping = EarlyStoppingConfig(patience=3)
        unbroken = make_run(tmp_path / "unbroken", config=CONFIG)
        fit(unbroken, with_early_stopping(stopping, []))
        step = unbroken.progress.step - 4  # in the epochs of waiting
        run = make_run(tmp_path / "run", config=CONFIG)
        with pytest.raises(Interrupted):
            fit(run, with_early_stopping(stopping, [StopAfter(step)]))
        resumed = self.go_on(tmp_path / "run", stopping)
        assert resumed.progress == unbroken.progress
        assert curve(tmp_path / "run") == curve(tmp_path / "unbroken")

    def test_is_final(self, tmp_path):
        stopping = EarlyStoppingConfig(patience=1)
        run = make_run(tmp_path / "run", config=CONFIG)
        fit(run, with_early_stopping(stopping, []))
        before = curve(tmp_path / "run")
        resumed = self.go_on(tmp_path / "run", stopping)
        assert resumed.progress == run.progress
        assert curve(tmp_path / "run") == before
        assert all((weights(run)[name] == value).all() for name, value in weights(resumed).items())

    def go_on(self, folder, stopping):
        run, callbacks = make_run(folder, config=CONFIG), with_early_stopping(stopping, [])
        run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder), callbacks)
        fit(run, callbacks)
        return run


class TestRefused:
    @pytest.mark.parametrize("metric", ["val/accuracy", "eval/silhouette"])
    def test_is_a_metric_that_there_is_not(self, metric):
        stopping = EarlyStopping(EarlyStoppingConfig(metric=metric, mode="max"))
        words = rf"metric is '{metric}', which was not measured; those there are: eval/knn, val/genes, val/loss, val/v"
        with pytest.raises(ConfigError, match=words):
            fit(make_run(), [Scores([1.0] * 3), stopping])

    def test_is_a_validation_without_a_target(self):
        with pytest.raises(ConfigError, match=r"'val/loss', which was not measured; those there are: none"):
            fit(make_run(val_loader=None), [EarlyStopping(EarlyStoppingConfig())])
