from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from scmodelforge.config.schema import GuardsConfig, OptimizerConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training.loop import fit, train_step, validate
from scmodelforge.training.progress import Status
from scmodelforge.training.setup import make_fabric, seed_everything

from .parts import (
    NUM_CELLS,
    NUM_GENES,
    UNEQUAL,
    WHOLE,
    Recorder,
    StandInLoader,
    TwoTermModel,
    cells,
    curve,
    make_run,
    records,
    settings,
    weights,
)


class TestAccumulation:
    def test_unequal_and_empty_micro_batches_give_the_gradient_of_the_whole_batch(self):
        gradients = []
        for split in (WHOLE, UNEQUAL):
            run = make_run(split=split, config=settings(gradient_clip=None))
            keep = gradients.append
            run.optimizer.optimizer.register_step_pre_hook(
                lambda optimizer, *_, model=run.model, keep=keep: keep([p.grad.clone() for p in model.parameters()])
            )
            train_step(run, run.train_loader.batch(0))
        plain = make_run().objective.module
        whole, *others = StandInLoader().batch(0)
        assert (len(others), len(run.train_loader.batch(0))) == (0, 4)
        sum(plain(whole).values()).backward()
        expected = [p.grad for p in plain.model.parameters()]
        for found in gradients:
            for gradient, reference in zip(found, expected, strict=True):
                torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-6)

    def test_gives_the_same_losses_and_weights_in_the_end(self, tmp_path):
        runs = [make_run(tmp_path / name, split=split) for name, split in (("a", WHOLE), ("b", UNEQUAL))]
        for run in runs:
            fit(run)
        for one, other in zip(curve(tmp_path / "a"), curve(tmp_path / "b"), strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        for name, value in weights(runs[0]).items():
            torch.testing.assert_close(value, weights(runs[1])[name], rtol=0, atol=1e-5)

    def test_the_loss_is_the_sum_of_each_terms_mean_over_all_its_targets(self):
        run = make_run(split=UNEQUAL)
        rows = StandInLoader().batch(0)[0]["cell_index"]
        expected = run.objective.module(cells(rows))
        metrics = train_step(run, run.train_loader.batch(0))
        for name, value in expected.items():
            assert metrics[f"train/{name}"] == pytest.approx(value.item(), abs=1e-6)
        assert metrics["train/loss"] == pytest.approx(sum(expected.values()).item(), abs=1e-6)


class FloorLoader(StandInLoader):
    """Says of each micro-batch that has hidden genes how low their loss can be; there is no such figure for values."""

    def batch(self, step: int) -> list[dict]:
        return [with_floor(batch) for batch in super().batch(step)]


def with_floor(batch: dict) -> dict:
    rows = batch["cell_index"]
    return {**batch, "floors": {"genes": 0.5 + float(rows.mean())}} if batch["num_targets"]["genes"] else batch


def mean_floor(batches: list[dict]) -> float:
    """Return the floor over all hidden genes of some batches."""
    pairs = [(batch["floors"]["genes"], batch["num_targets"]["genes"]) for batch in batches if "floors" in batch]
    return sum(floor * count for floor, count in pairs) / sum(count for _, count in pairs)


class TestFloors:
    @pytest.mark.parametrize("split", [WHOLE, UNEQUAL])
    def test_are_averaged_over_the_targets_of_all_micro_batches(self, split):
        loader = FloorLoader(split)
        batches = loader.batch(0)
        assert len({batch["num_targets"]["genes"] for batch in batches}) == len(split[0])
        metrics = train_step(make_run(train_loader=loader), batches)
        assert metrics["train/genes_floor"] == pytest.approx(mean_floor(batches), rel=1e-12)
        assert "train/values_floor" not in metrics

    def test_are_averaged_over_all_validation_batches(self):
        loader = FloorLoader(UNEQUAL, shuffle=False)
        metrics = validate(make_run(val_loader=loader))
        batches = [batch for step in range(loader.steps_per_pass) for batch in loader.batch(step)]
        assert metrics["val/genes_floor"] == pytest.approx(mean_floor(batches), rel=1e-12)
        assert "val/values_floor" not in metrics
        assert metrics["val/loss"] == pytest.approx(metrics["val/genes"] + metrics["val/values"], abs=1e-12)

    def test_change_neither_loss_nor_weights(self, tmp_path):
        runs = []
        for name, kind in (("a", StandInLoader), ("b", FloorLoader)):
            loaders = {"train_loader": kind(UNEQUAL), "val_loader": kind(UNEQUAL, shuffle=False)}
            runs.append(make_run(tmp_path / name, **loaders))
            fit(runs[-1])
        floors = {"train/genes_floor", "val/genes_floor"}
        with_floors = curve(tmp_path / "b")
        assert {name for record in with_floors for name in record} >= floors
        stripped = [{name: value for name, value in record.items() if name not in floors} for record in with_floors]
        assert stripped == curve(tmp_path / "a")
        assert all(torch.equal(value, weights(runs[1])[name]) for name, value in weights(runs[0]).items())

    def test_stand_behind_the_loss_of_validation(self):
        reporter = Recorder()
        run = make_run(val_loader=FloorLoader(shuffle=False), config=settings(max_epochs=1), reporter=reporter)
        fit(run)
        floor = run.validation["val/genes_floor"]
        loss, genes, values = (run.validation[f"val/{name}"] for name in ("loss", "genes", "values"))
        expected = f"  val/loss {loss:.3f} (genes {genes:.3f}, values {values:.3f}, at least {floor:.3f})  "
        assert expected in reporter.shown[-1].line()
        assert "at least" not in reporter.shown[0].line()

    def test_of_several_terms_are_added_and_those_of_training_left_out(self):
        metrics = {"val/loss": 5.0, "val/a_floor": 1.25, "val/b_floor": 2.0, "train/a_floor": 9.0, "val/flooring": 7.0}
        status = Status(epoch=1, max_epochs=1, step=1, total_steps=1, metrics=metrics)
        assert "  val/loss 5.000 (at least 3.250)  " in status.line()

    def test_without_targets_are_not_given(self):
        assert validate(make_run(val_loader=FloorLoader(((),), shuffle=False))) == {}

    def test_of_a_model_without_terms_are_given_too(self):
        metrics = train_step(make_run(model=OneLossModel), batches := FloorLoader(UNEQUAL).batch(0))
        assert metrics["train/genes_floor"] == pytest.approx(mean_floor(batches), rel=1e-12)
        assert metrics["train/loss"] > 0


class TestBatchWithoutTargets:
    def test_has_loss_zero_and_leaves_the_weights_alone(self):
        run = make_run(config=settings(optimizer=OptimizerConfig(lr=1.0, weight_decay=0.0)))
        before = weights(run)
        run.train_loader.__iter__()
        metrics = train_step(run, [cells([])])
        assert (metrics["train/loss"], metrics["train/grad_norm"]) == (0.0, 0.0)
        assert all(torch.equal(before[name], value) for name, value in weights(run).items())

    def test_counts_as_a_step_of_its_cells(self):
        run = make_run()
        train_step(run, [cells([0]) | {"num_targets": {"genes": 0, "values": 0}}])
        assert (run.progress.step, run.progress.cells, run.train_loader.consumed) == (1, 1, 1)


class TestClock:
    def test_an_epoch_is_a_pass_unless_steps_are_given(self):
        assert make_run(config=settings(max_epochs=4)).total_steps == 4 * 3
        assert make_run(config=settings(max_epochs=4, steps_per_epoch=5)).total_steps == 4 * 5

    def test_epochs_do_not_reset_the_order_of_the_cells(self, tmp_path):
        by_pass = make_run(tmp_path / "a", config=settings(max_epochs=4))
        by_steps = make_run(tmp_path / "b", config=settings(max_epochs=3, steps_per_epoch=4))
        for run in (by_pass, by_steps):
            fit(run)
        losses = [[r["train/loss"] for r in curve(tmp_path / n) if "train/loss" in r] for n in ("a", "b")]
        assert losses[0] == losses[1]
        assert by_pass.progress.cells == by_steps.progress.cells == 4 * NUM_CELLS
        assert (by_pass.progress.epoch, by_steps.progress.epoch) == (4, 3)

    def test_records_come_at_log_steps_and_ends_of_epochs(self, tmp_path):
        fit(make_run(tmp_path, config=settings(max_epochs=2, steps_per_epoch=5, log_every_n_steps=2)))
        found = [(r["step"], "val/loss" in r) for r in records(tmp_path)]
        expected = [(2, False), (4, False), (5, False), (5, True), (6, False), (8, False), (10, False), (10, True)]
        assert found == expected

    def test_a_record_has_all_metrics_under_their_names(self, tmp_path):
        fit(make_run(tmp_path, config=settings(max_epochs=1)))
        train, validation = records(tmp_path)[-2:]
        clock = {"step", "epoch", "cells"}
        names = {"loss", "genes", "values", "lr", "grad_norm", "cells_per_second", "data_wait_share", "step_seconds"}
        names |= {"skipped_steps", "loss_spikes"}
        assert set(train) == clock | {f"train/{name}" for name in names}
        assert set(validation) == clock | {"val/loss", "val/genes", "val/values"}
        assert train["epoch"] == validation["epoch"] == 1  # the same moment, the end of the first epoch

    def test_the_records_and_the_terminal_tell_of_the_same_epoch(self, tmp_path):
        reporter = Recorder()
        config = settings(max_epochs=2, steps_per_epoch=4, log_every_n_steps=1)
        fit(make_run(tmp_path, config=config, reporter=reporter))
        told = {r["step"]: r["epoch"] for r in records(tmp_path)}
        assert told == {step: step / 4 for step in range(1, 9)}
        assert {s.step: s.epoch for s in reporter.shown} == {step: math.ceil(epoch) for step, epoch in told.items()}

    def test_progress_is_reported_once_a_step_with_the_latest_validation(self):
        reporter = Recorder()
        run = make_run(config=settings(max_epochs=2), reporter=reporter)
        fit(run)
        assert [(s.epoch, s.step, "val/loss" in s.metrics) for s in reporter.shown] == [
            (1, 1, False),
            (1, 2, False),
            (1, 3, True),
            (2, 4, True),
            (2, 5, True),
            (2, 6, True),
        ]
        assert reporter.shown[-1].metrics["val/loss"] == run.validation["val/loss"]
        assert reporter.shown[-1].seconds_left == 0.0
        assert reporter.is_closed
        assert run.train_loader.is_closed

    def test_a_loader_that_ends_is_an_error(self):
        run = make_run(train_loader=FiniteLoader())
        with pytest.raises(RuntimeError, match="the training loader ended after step 3 of 9; it must be endless"):
            fit(run)


class FiniteLoader(StandInLoader):
    def __iter__(self):
        return self.one_pass()


class TestClipping:
    def test_bounds_the_step_and_reports_the_norm_before(self):
        norms = []
        for clip in (None, 1e-3):
            run = make_run(config=settings(gradient_clip=clip))
            keep = norms.append
            run.optimizer.optimizer.register_step_pre_hook(
                lambda optimizer, *_, model=run.model, keep=keep: keep(
                    math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
                )
            )
            norms.append(train_step(run, run.train_loader.batch(0))["train/grad_norm"])
        free, reported_free, clipped, reported = norms
        assert free == pytest.approx(reported_free, rel=1e-5)
        assert reported == pytest.approx(reported_free, rel=1e-6)
        assert clipped == pytest.approx(1e-3, rel=1e-3)


AT_ONCE = GuardsConfig(max_skipped_steps=0)


class TestNotFinite:
    @pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
    def test_loss_stops_the_run_before_the_step_is_taken(self, tmp_path, value, shown):
        run = make_run(tmp_path, model=lambda: BreaksAt(2, value), config=settings(guards=AT_ONCE))
        with pytest.raises(RuntimeError, match=rf"train/loss is {shown} at step 2; the step was not taken"):
            fit(run)
        assert run.progress.step == 1
        assert all(torch.isfinite(value).all() for value in weights(run).values())

    def test_gradient_stops_the_run_too(self):
        run = make_run(model=lambda: BreaksAt(1, math.inf, in_backward=True), config=settings(guards=AT_ONCE))
        with pytest.raises(RuntimeError, match=r"train/grad_norm is (nan|inf) at step 1; the step was not taken"):
            fit(run)
        assert all(torch.isfinite(value).all() for value in weights(run).values())


class BreaksAt(TwoTermModel):
    """Its loss (or only the gradient of it) is not finite at some step."""

    def __init__(self, step: int, factor: float, *, in_backward: bool = False) -> None:
        super().__init__()
        self.step, self.factor, self.in_backward = step, factor, in_backward

    def forward(self, *args, **kwargs):
        loss = super().forward(*args, **kwargs).loss
        if len(self.calls) == self.step:
            # The derivative of sqrt is infinite at 0, its value is not.
            loss = loss + torch.sqrt(loss * 0) if self.in_backward else loss * self.factor
        return ModelOutput(loss=loss)


class OneLossModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_GENES, 1)

    def forward(self, input_ids, truth, **others):
        return ModelOutput(loss=(self.embedding(input_ids).squeeze(-1) - truth).square().mean())


class TestModelsWithoutTerms:
    def test_train_by_their_loss_weighted_by_all_targets(self, tmp_path):
        run = make_run(tmp_path, model=OneLossModel, config=settings(max_epochs=1), split=UNEQUAL)
        batches = run.train_loader.batch(0)
        counts = [sum(batch["num_targets"].values()) for batch in batches]
        losses = [run.model(**batch).loss.item() if len(batch["input_ids"]) else 0.0 for batch in batches]
        expected = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts)
        fit(run)
        first, *_, validation = curve(tmp_path)
        assert {name for name in first if name.startswith("train/")} == {
            "train/loss",
            "train/lr",
            "train/grad_norm",
            "train/skipped_steps",
            "train/loss_spikes",
        }
        assert first["train/loss"] == pytest.approx(expected, abs=1e-6)
        assert {name for name in validation if name.startswith("val/")} == {"val/loss"}


class Diary:
    """Writes down what it is told, and draws random numbers each time."""

    def __init__(self) -> None:
        self.events: list = []

    def on_fit_start(self, run) -> None:
        self.note(run, "start")

    def on_step_end(self, run) -> None:
        self.note(run, "step")

    def on_epoch_end(self, run) -> None:
        if run.checkpoints is not None:
            run.checkpoints.wait()
        self.note(run, "epoch")
        assert run.validation_step == run.progress.step

    def on_fit_end(self, run) -> None:
        self.note(run, "end")

    def note(self, run, event: str) -> None:
        torch.rand(7)
        saved = run.checkpoints.path_of(run.progress.step).exists() if run.checkpoints else False
        self.events.append((event, run.progress.step, run.progress.epoch, saved))


class TestCallbacks:
    def test_are_called_in_order_and_after_the_checkpoint_of_the_epoch(self, tmp_path):
        diary = Diary()
        fit(make_run(tmp_path, config=settings(max_epochs=2, steps_per_epoch=2)), [diary])
        assert diary.events == [
            ("start", 0, 0, False),
            ("step", 1, 0, False),
            ("step", 2, 0, False),
            ("epoch", 2, 1, True),
            ("step", 3, 1, False),
            ("step", 4, 1, False),
            ("epoch", 4, 2, True),
            ("end", 4, 2, True),
        ]

    def test_that_draw_random_numbers_do_not_change_training(self, tmp_path):
        fit(make_run(tmp_path / "a", dropout=0.4), [Diary()])
        fit(make_run(tmp_path / "b", dropout=0.4))
        assert curve(tmp_path / "a") == curve(tmp_path / "b")

    def test_may_have_none_of_the_methods(self):
        fit(make_run(config=settings(max_epochs=1)), [object()])


class TestRandomness:
    def test_depends_on_the_seed_and_not_on_draws_before_the_run(self, tmp_path):
        losses = {}
        for name, seed, drawn in [("a", 0, 0), ("b", 0, 5), ("c", 1, 0)]:
            run = make_run(tmp_path / name, dropout=0.4, config=settings(seed=seed, max_epochs=1))
            seed_everything(0)
            nn.init.normal_(torch.empty(drawn))
            fit(run)
            losses[name] = curve(tmp_path / name)
        assert losses["a"] == losses["b"]
        assert losses["a"] != losses["c"]


class TestMixedPrecision:
    def test_trains_in_bf16_and_keeps_full_weights(self, tmp_path):
        config = settings(precision="bf16-mixed")
        full = make_run(tmp_path / "full", config=settings())
        mixed = make_run(tmp_path / "mixed", config=config, fabric=make_fabric(config))
        for run in (full, mixed):
            fit(run)
        assert {value.dtype for value in weights(mixed).values()} == {torch.float32}
        first = [curve(tmp_path / name)[0]["train/loss"] for name in ("full", "mixed")]
        assert first[0] != first[1]
        assert first[0] == pytest.approx(first[1], rel=2e-2)
