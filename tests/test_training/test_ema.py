"""Averages of the weights: what they are, who sees them, and that a resumed run has them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from scmodelforge._errors import Interrupted
from scmodelforge.config.schema import EmaConfig
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.ema import Ema, averaged
from scmodelforge.training.loop import fit, validate

from .parts import StopAfter, TwoTermModel, curve, make_run, settings, weights

CONFIG = settings(max_epochs=4, ema=EmaConfig(decay=0.4, start_step=2))


class Watcher:
    """Keeps the raw weights after each step, and what the epoch's callbacks see."""

    def __init__(self) -> None:
        self.raw: list[dict[str, torch.Tensor]] = []
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, run) -> None:
        self.raw.append(weights(run))

    def on_epoch_end(self, run) -> None:
        self.seen.append(weights(run))

    def on_fit_end(self, run) -> None:
        self.seen.append(weights(run))


def oracle(raw: list[dict[str, torch.Tensor]], *, decay: float, start: int) -> dict[str, torch.Tensor]:
    """Average in float64, by the formula of the docstring."""
    average = {name: value.double() for name, value in raw[start].items()}
    for number, now in enumerate(raw[start + 1 :], start=2):
        kept = min(decay, (1 + number) / (10 + number))
        average = {name: kept * old + (1 - kept) * now[name].double() for name, old in average.items()}
    return average


def assert_equal(found, expected) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


class TestAverages:
    @pytest.mark.parametrize(("decay", "start"), [(0.999, 0), (0.4, 0), (0.4, 2)])
    def test_are_those_of_the_formula(self, decay, start):
        run, watcher = make_run(config=settings(ema=EmaConfig(decay=decay, start_step=start))), Watcher()
        fit(run, [watcher])
        expected = oracle(watcher.raw, decay=decay, start=start)
        for name, value in watcher.seen[-1].items():
            torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)
        assert any(not torch.equal(value, watcher.raw[-1][name]) for name, value in watcher.seen[-1].items())

    def test_of_half_precision_weights_are_kept_in_float32(self):
        """A hundredth of a step of bf16 would be lost in bf16."""
        model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
        nn.init.ones_(model.weight)
        ema = Ema(EmaConfig(decay=0.5, start_step=100))
        for _ in range(101):
            ema.update(model)
        nn.init.constant_(model.weight, 1 + 2**-7)  # the next number of bf16
        ema.update(model)
        ema.update(model)
        with ema.applied(model):
            assert model.weight.item() == 1 + 2**-7  # rounded: 0.75 or more of the way
        assert ema._averages[0].dtype == torch.float32
        assert 1 < ema._averages[0].item() < 1 + 2**-7

    def test_of_frozen_weights_are_the_weights(self):
        def frozen() -> TwoTermModel:
            model = TwoTermModel()
            model.hidden.requires_grad_(False)
            return model

        run, watcher = make_run(model=frozen, config=CONFIG), Watcher()
        before = weights(run)
        fit(run, [watcher])
        assert torch.equal(watcher.seen[-1]["hidden.weight"], before["hidden.weight"])

    def test_are_used_with_the_buffers_of_the_model(self):
        model = nn.BatchNorm1d(2)
        ema = Ema(EmaConfig())
        ema.update(model)
        model(torch.randn(8, 2))
        expected = model.running_mean.clone()
        with ema.applied(model):
            assert torch.equal(model.running_mean, expected)


class TestTraining:
    def test_goes_on_with_the_raw_weights(self, tmp_path):
        """All but what is validated is as without averages."""
        with_them, without = (
            make_run(tmp_path / "a", config=CONFIG),
            make_run(tmp_path / "b", config=settings(max_epochs=4)),
        )
        fit(with_them)
        fit(without)
        assert_equal(weights(with_them), weights(without))
        losses = [[record.get("train/loss") for record in curve(tmp_path / name)] for name in "ab"]
        assert losses[0] == losses[1]
        validated = [[r["val/loss"] for r in curve(tmp_path / name) if "val/loss" in r] for name in "ab"]
        assert validated[0][0] == validated[1][0]  # after the first step that is averaged
        assert all(one != two for one, two in zip(validated[0][1:], validated[1][1:], strict=True))

    def test_validates_the_averages(self):
        run = make_run(config=CONFIG)
        fit(run)
        with averaged(run):
            assert validate(run) == run.validation
        assert validate(run) != run.validation

    def test_before_the_first_average_uses_the_weights(self):
        run, watcher = make_run(config=settings(max_epochs=1, ema=EmaConfig(start_step=3))), Watcher()
        fit(run, [watcher])
        assert_equal(watcher.seen[0], watcher.raw[-1])

    def test_puts_the_weights_back_when_a_callback_fails(self):
        class Failing(Watcher):
            def on_epoch_end(self, run) -> None:
                msg = "failed"
                raise RuntimeError(msg)

        run, failing = make_run(config=CONFIG), Failing()
        with pytest.raises(RuntimeError, match="failed"):
            fit(run, [failing])
        assert_equal(weights(run), failing.raw[-1])


class TestCheckpoints:
    def test_have_the_averages_as_the_model_and_the_weights_beside(self, tmp_path):
        run, watcher = make_run(tmp_path, config=CONFIG), Watcher()
        fit(run, [watcher])
        last = run.checkpoints.path_of(12)
        saved = load_file(last / "model" / "model.safetensors")
        assert_equal(saved, watcher.seen[-1])
        state = load_file(last / "state.safetensors")
        raw = {name.removeprefix("weight."): value for name, value in state.items() if name.startswith("weight.")}
        assert_equal(raw, watcher.raw[-1])

    @pytest.mark.parametrize("step", [1, 2, 3, 5, 9])
    def test_continue_bit_for_bit(self, tmp_path, step):
        unbroken = make_run(tmp_path / "unbroken", config=CONFIG, dropout=0.3)
        fit(unbroken)
        run = make_run(tmp_path / "run", config=CONFIG, dropout=0.3)
        with pytest.raises(Interrupted):
            fit(run, [StopAfter(step)])
        run = make_run(tmp_path / "run", config=CONFIG, dropout=0.3)
        run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder))
        assert run.model.genes.weight is run.model.embedding.weight
        fit(run)
        assert curve(tmp_path / "run") == curve(tmp_path / "unbroken")
        assert_equal(weights(run), weights(unbroken))
        models = [load_file(each.checkpoints.path_of(12) / "model" / "model.safetensors") for each in (run, unbroken)]
        assert_equal(*models)
