"""Steps that are not finite, and leaps of the loss."""

from __future__ import annotations

import json
import logging
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from scmodelforge._errors import Interrupted, RunError
from scmodelforge.config.schema import GuardsConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training.batch_records import BatchRecords
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.guards import SpikeDetector
from scmodelforge.training.loop import fit, train_step

from .parts import StandInLoader, StopAfter, TwoTermModel, curve, make_run, records, settings, weights
from .two_processes import SPLIT


class BadAt(TwoTermModel):
    """Its loss is not finite at some steps; batches are counted by ``set_step``, so that resuming changes nothing."""

    def __init__(self, *steps: int, value: float = math.nan, dropout: float = 0.3) -> None:
        super().__init__(dropout)
        self.steps, self.factor, self.step = steps, value, 0

    def set_step(self, step: int) -> None:
        self.step = step + 1

    def forward(self, *args, **kwargs):
        terms = super().forward(*args, **kwargs).loss_terms
        if self.training and self.step in self.steps:
            terms = {name: term * self.factor for name, term in terms.items()}
        return ModelOutput(loss=sum(terms.values()), loss_terms=terms)


def run_with_records(folder: Path, *steps: int, describe=None, **guards):
    config = settings(guards=GuardsConfig(**guards))
    run = make_run(folder, model=lambda: BadAt(*steps), config=config)
    run.guards.records = BatchRecords(folder, describe)
    return run


class TestSkipping:
    def test_the_optimiser_does_not_see_the_step_and_all_clocks_move(self):
        run = make_run(model=lambda: BadAt(2))
        train_step(run, run.train_loader.batch(0))
        before, moments = weights(run), [dict(state) for state in run.optimizer.state.values()]
        counts = [int(state["step"]) for state in moments]
        metrics = train_step(run, run.train_loader.batch(1))
        assert math.isnan(metrics["train/loss"])
        assert metrics["train/skipped_steps"] == 1
        assert all(torch.equal(before[name], value) for name, value in weights(run).items())
        assert [int(state["step"]) for state in run.optimizer.state.values()] == counts
        assert (run.progress.step, run.train_loader.consumed, run.scheduler.last_epoch) == (2, 2, 2)

    def test_what_comes_after_is_as_if_the_optimiser_had_never_met_the_batch(self):
        """The same steps by hand: that of the bad batch is left out, the learning rate moves on."""
        run, other = (make_run(model=lambda: BadAt(2, dropout=0.0)) for _ in range(2))
        for number in range(4):
            train_step(run, run.train_loader.batch(number))
        for number in range(4):
            if number == 1:
                other.scheduler.step()
                other.progress.step += 1
                continue
            train_step(other, other.train_loader.batch(number))
        assert all(torch.equal(weights(other)[name], value) for name, value in weights(run).items())

    def test_the_first_step_may_be_the_bad_one(self):
        run = make_run(model=lambda: BadAt(1))
        fit(run)
        assert run.progress.step == run.total_steps
        assert run.guards.skipped == 1

    def test_is_said_in_one_line_with_the_step_and_counted_in_the_metrics(self, tmp_path, caplog):
        run = run_with_records(tmp_path, 3, 5)
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            fit(run)
        lines = [message for message in caplog.messages if "skipped" in message]
        assert [line.split(";")[0] for line in lines] == ["train/loss is nan at step 3", "train/loss is nan at step 5"]
        counts = [record["train/skipped_steps"] for record in records(tmp_path) if "train/loss" in record]
        assert counts == [0, 0, 1, 1, 2, 2, 2, 2, 2]
        assert run.guards.skipped_in_a_row == 0

    def test_a_resumed_run_equals_the_unbroken_one_and_goes_on_counting(self, tmp_path):
        fit(run_with_records(tmp_path / "unbroken", 2, 4, 5))
        stopped = run_with_records(tmp_path / "stopped", 2, 4, 5)
        with pytest.raises(Interrupted):
            fit(stopped, [StopAfter(4)])  # between two bad steps in a row
        resumed = run_with_records(tmp_path / "stopped", 2, 4, 5)
        resumed.checkpoints.load(resumed, Checkpoints.find_last(tmp_path / "stopped" / "checkpoints"))
        assert (resumed.guards.skipped, resumed.guards.skipped_in_a_row) == (2, 1)
        fit(resumed)
        assert curve(tmp_path / "stopped") == curve(tmp_path / "unbroken")
        assert curve(tmp_path / "stopped")[-2]["train/skipped_steps"] == 3

    def test_a_batch_norm_does_not_keep_what_is_not_finite(self):
        run = make_run(model=lambda: Normed(bad_step=2))
        for number in range(3):
            train_step(run, run.train_loader.batch(number))
        assert run.guards.skipped == 1
        assert torch.isfinite(run.model.batch_norm.running_mean).all()
        assert int(run.model.batch_norm.num_batches_tracked) == 2


class Normed(TwoTermModel):
    """Has a batch norm, whose input is not finite at some step."""

    def __init__(self, bad_step: int) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(1)
        self.bad_step = bad_step

    def forward(self, input_ids, truth=None, **others):
        terms = super().forward(input_ids, truth=truth, **others).loss_terms
        factor = math.nan if len(self.calls) == self.bad_step else 1.0
        extra = self.batch_norm(truth.mean(1, keepdim=True) * factor).mean()
        return ModelOutput(loss=None, loss_terms={**terms, "values": terms["values"] + extra})


class TestLimit:
    def test_stops_after_so_many_in_a_row_and_names_the_file_with_the_cells(self, tmp_path):
        run = run_with_records(tmp_path, 2, 4, 5, 6, max_skipped_steps=2)
        with pytest.raises(RunError, match=r"train/loss is nan at step 6; the step was not taken .* after 2 skipped"):
            fit(run)
        assert (run.progress.step, run.guards.skipped) == (5, 3)
        assert (tmp_path / "bad_batch_step_6.json").is_file()

    def test_the_message_names_the_file(self, tmp_path):
        with pytest.raises(RunError) as stop:
            fit(run_with_records(tmp_path, 3, max_skipped_steps=0))
        assert str(tmp_path / "bad_batch_step_3.json") in str(stop.value)
        assert "\n" not in str(stop.value)

    def test_the_file_has_what_made_the_batch_and_what_it_gave(self, tmp_path):
        run = run_with_records(
            tmp_path, 3, max_skipped_steps=0, describe=lambda cells: [{"obs_name": f"cell{c}"} for c in cells]
        )
        with pytest.raises(RunError):
            fit(run)
        record = json.loads((tmp_path / "bad_batch_step_3.json").read_text())
        (batch,) = run.train_loader.batch(2)
        assert [cell["position"] for cell in record["cells"]] == batch["cell_index"].tolist()
        assert record["cells"][0]["obs_name"] == f"cell{batch['cell_index'][0]}"
        assert record["loader"] == {"consumed": 2}
        assert (record["step"], record["seed"], record["world_size"]) == (3, 0, 1)
        assert {"train/loss", "train/genes", "train/values", "train/grad_norm"} <= set(record["metrics"])
        assert record["metrics"]["train/loss"] == "nan"

    def test_a_full_disk_does_not_hide_what_happened(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        run = make_run(model=lambda: BadAt(1), config=settings(guards=GuardsConfig(max_skipped_steps=0)))
        run.guards.records = BatchRecords(tmp_path / "file")
        with pytest.raises(RunError, match="train/loss is nan at step 1"):
            fit(run)

    def test_many_skipped_steps_write_a_bounded_number_of_files(self, tmp_path):
        for number in range(20):
            (tmp_path / f"bad_batch_step_{100 + number}.json").write_text("{}")
        fit(run_with_records(tmp_path, 2))
        assert not (tmp_path / "bad_batch_step_2.json").exists()


class TestSpikes:
    def losses(self, number: int) -> list[float]:
        draw = random.Random(0)
        return [3 - 0.005 * step + draw.gauss(0, 0.05) for step in range(number)]

    def test_noise_around_a_falling_loss_is_none(self):
        detector = SpikeDetector(10.0)
        assert [detector.see(loss) for loss in self.losses(400)] == [None] * 400

    def test_a_leap_is_one_however_long_it_lasts(self):
        detector = SpikeDetector(10.0)
        for loss in self.losses(60):
            detector.see(loss)
        found = [detector.see(loss) for loss in (8.0, 9.0, 7.0, 2.7, 8.0)]
        assert [each is not None for each in found] == [True, False, False, False, True]
        assert detector.spikes == 2

    def test_a_new_level_becomes_the_usual_one(self):
        detector = SpikeDetector(10.0)
        for loss in [*self.losses(100), *(loss + 5 for loss in self.losses(100))]:
            detector.see(loss)
        assert detector.see(8.0) is None
        assert detector.spikes == 1

    def test_a_drop_is_none_and_neither_is_anything_before_there_is_a_usual_level(self):
        detector = SpikeDetector(10.0)
        assert [detector.see(loss) for loss in (3.0, 500.0, 3.0)] == [None] * 3
        for loss in self.losses(60):
            detector.see(loss)
        assert detector.see(0.001) is None

    def test_without_a_factor_there_are_none(self):
        detector = SpikeDetector(None)
        assert [detector.see(loss) for loss in [*self.losses(60), 1e9]] == [None] * 61

    def test_a_state_goes_on_as_if_unbroken(self):
        losses = [*self.losses(60), 9.0, 9.0, 2.7, 9.0]
        whole, first, second = (SpikeDetector(10.0) for _ in range(3))
        expected = [whole.see(loss) for loss in losses]
        found = [first.see(loss) for loss in losses[:61]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert found + [second.see(loss) for loss in losses[61:]] == expected

    def test_is_reported_with_its_cells_and_changes_nothing(self, tmp_path, caplog):
        runs = {}
        for name, factor in (("watched", 10.0), ("unwatched", None)):
            config = settings(max_epochs=10, guards=GuardsConfig(spike_factor=factor))
            run = make_run(tmp_path / name, model=lambda: BadAt(28, value=1000.0), config=config)
            run.guards.records = BatchRecords(tmp_path / name)
            fit(run)
            runs[name] = run
        assert [m for m in caplog.messages if "train/loss leaps to" in m and "at step 28" in m]
        last = [record for record in records(tmp_path / "watched") if "train/loss" in record][-1]
        assert last["train/loss_spikes"] == 1
        (path,) = (tmp_path / "watched").glob("loss_spike_step_*.json")
        assert path.name == "loss_spike_step_28.json"
        cells = [cell["position"] for cell in json.loads(path.read_text())["cells"]]
        assert cells == runs["watched"].train_loader.batch(27)[0]["cell_index"].tolist()
        assert not list((tmp_path / "unwatched").glob("loss_spike*"))
        watched, unwatched = (weights(run) for run in runs.values())
        assert all(torch.equal(watched[name], value) for name, value in unwatched.items())


@pytest.mark.distributed
def test_what_one_process_meets_all_skip_and_the_cells_of_all_are_kept(tmp_path):
    script = [sys.executable, "-m", "tests.test_training.bad_batch_in_two", str(tmp_path)]
    result = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["skipped"] == two["skipped"] == 1
    assert one["weights"] == two["weights"]
    assert math.isfinite(one["weights"])
    assert one["least"] == two["least"] == 7
    cells = json.loads((tmp_path / "run" / "bad_batch_step_2.json").read_text())["cells"]
    for rank in (0, 1):
        expected = [
            (number, position)
            for number, batch in enumerate(StandInLoader(SPLIT, rank).batch(1))
            for position in batch["cell_index"].tolist()
        ]
        assert [(c["micro_batch"], c["position"]) for c in cells if c["process"] == rank] == expected
