from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scmodelforge.config.schema import OptimizerConfig, SchedulerConfig
from scmodelforge.training.loop import fit
from scmodelforge.training.schedules import SCHEDULES, base_lr, build_scheduler

from .parts import curve, make_run, settings


def rates(steps: int, *, epoch: int | None = None, **settings) -> list[float]:
    """Return the learning rate of each step, over the peak."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = build_scheduler(optimizer, SchedulerConfig(**settings), steps, steps_per_epoch=epoch)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        scheduler.step()
    return used


class TestClosedForms:
    def test_linear_rises_to_the_peak_and_falls_in_a_line_to_the_last_rate(self):
        expected = [1 / 4, 2 / 4, 3 / 4, 1.0, 0.8, 0.6, 0.4, 0.2]
        assert rates(8, name="linear", warmup_steps=3, min_lr_ratio=0.2) == pytest.approx(expected, rel=1e-12)

    def test_linear_without_warm_up_begins_at_the_peak_and_ends_at_zero(self):
        assert rates(5, name="linear") == pytest.approx([1, 0.75, 0.5, 0.25, 0])

    def test_wsd_stays_until_the_last_part_and_falls_as_one_minus_a_root(self):
        # A quarter of 17 steps are 4: the fall begins at step 12 of 0 to 16.
        fall = [1 - math.sqrt(done / 4) for done in range(1, 5)]
        expected = [1 / 3, 2 / 3] + [1.0] * 11 + fall
        assert rates(17, name="wsd", warmup_steps=2, decay_fraction=0.25) == pytest.approx(expected, abs=1e-12)

    def test_wsd_falls_in_a_line_to_the_last_rate_if_asked_for(self):
        used = rates(11, name="wsd", decay_fraction=0.4, decay_shape="linear", min_lr_ratio=0.2)
        assert used == pytest.approx([1.0] * 7 + [0.8, 0.6, 0.4, 0.2], abs=1e-12)

    def test_wsd_whose_fall_would_begin_in_the_warm_up_falls_after_it(self):
        used = rates(6, name="wsd", warmup_steps=3, decay_fraction=1.0, decay_shape="linear")
        assert used == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0, 0.5, 0.0], abs=1e-12)

    def test_epoch_decay_falls_after_each_epoch_and_not_below_the_lowest_rate(self):
        """As torch's StepLR(1, gamma) stepped once an epoch."""
        used = rates(9, epoch=2, name="epoch_decay", decay_factor=0.5, min_lr_ratio=0.1)
        assert used == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1])

    def test_a_fraction_of_warm_up_is_a_share_of_all_steps(self):
        for name in SCHEDULES:
            assert rates(40, name=name, warmup_fraction=0.1) == rates(40, name=name, warmup_steps=4)
        assert rates(9, name="constant", warmup_fraction=0.0) == [1.0] * 9


WARMUPS = st.one_of(
    st.fixed_dictionaries({"warmup_steps": st.integers(0, 60)}),
    st.fixed_dictionaries({"warmup_fraction": st.floats(0, 0.99)}),
)


class TestProperties:
    @given(
        st.sampled_from(sorted(SCHEDULES)),
        st.integers(1, 50),
        WARMUPS,
        st.floats(0, 1),
        st.floats(0.01, 1),
        st.sampled_from(["1-sqrt", "linear"]),
    )
    def test_rise_then_never_rise_again_and_stay_within_bounds(self, name, steps, warmup, lowest, fraction, shape):
        used = rates(
            steps, epoch=7, name=name, **warmup, min_lr_ratio=lowest, decay_fraction=fraction, decay_shape=shape
        )
        length = warmup.get("warmup_steps", round(warmup.get("warmup_fraction", 0) * steps))
        assert all(0 <= rate <= 1 + 1e-12 for rate in used)
        assert used[0] > 0 or steps == 1 or length == 0
        if name != "epoch_decay":  # which falls in its warm-up too, at the end of an epoch
            assert all(one < two for one, two in itertools.pairwise(used[:length]))
        assert all(one >= two for one, two in itertools.pairwise(used[length:]))
        if name in ("cosine_warmup", "linear", "wsd") and length + 1 < steps:
            assert used[-1] == pytest.approx(lowest, abs=1e-9)

    @given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 30))
    def test_depend_on_the_step_alone(self, name, at):
        """A schedule that is put to a step gives what one gives that went there."""
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = build_scheduler(optimizer, SchedulerConfig(name=name, warmup_steps=3), 31, steps_per_epoch=5)
        scheduler.last_epoch = at
        assert base_lr(scheduler, 1.0) == rates(31, epoch=5, name=name, warmup_steps=3)[at]


def test_two_warm_ups_are_refused():
    with pytest.raises(ValueError, match=r"warmup_steps \(5\) and warmup_fraction \(0.1\) both say how long"):
        SchedulerConfig(warmup_steps=5, warmup_fraction=0.1)


def test_the_logged_rate_is_the_base_one_whatever_the_groups(tmp_path):
    groups = [{"parameters": "*", "lr": 1e-5}]
    config = settings(optimizer=OptimizerConfig(lr=0.5, groups=groups), scheduler=SchedulerConfig(name="constant"))
    fit(make_run(tmp_path, config=config))
    logged = [record["train/lr"] for record in curve(tmp_path) if "train/lr" in record]
    assert logged == [0.5] * 9
