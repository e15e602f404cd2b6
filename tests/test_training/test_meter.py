from __future__ import annotations

import logging

import pytest
import torch

from scmodelforge.training.gpu_peaks import peak_flops
from scmodelforge.training.meter import Meter, Work, device_figures, work_of


class TestFigures:
    def test_are_since_the_last_reading(self):
        meter = Meter()
        meter.add(cells=8, seconds=2.0, waited=1.0, work=Work(tokens=100))
        meter.add(cells=8, seconds=2.0, waited=0.0, work=Work(tokens=60))
        assert meter.read() == {
            "train/cells_per_second": 4.0,
            "train/data_wait_share": 0.25,
            "train/step_seconds": 2.0,
            "train/tokens_per_second": 40.0,
        }
        meter.add(cells=10, seconds=1.0, waited=1.0)
        figures = meter.read()
        assert figures["train/cells_per_second"] == 10.0
        assert figures["train/data_wait_share"] == 1.0
        assert "train/tokens_per_second" not in figures  # of cells that are no tokens

    def test_mfu_is_the_share_of_what_all_devices_can_compute(self):
        meter = Meter(peak=2 * 100.0, total=lambda numbers: [2 * number for number in numbers])  # two processes
        meter.add(cells=1, seconds=3.0, waited=0.0, work=Work(tokens=5, flops=60))
        meter.add(cells=1, seconds=1.0, waited=0.0, work=Work(tokens=5, flops=100))
        figures = meter.read()
        assert figures["train/mfu"] == pytest.approx((60 + 100) * 2 / 4.0 / 200.0)
        assert figures["train/tokens_per_second"] == 5.0

    def test_there_is_no_mfu_of_a_model_that_does_not_tell_its_flops(self):
        meter = Meter(peak=100.0)
        meter.add(cells=1, seconds=1.0, waited=0.0, work=Work(tokens=5))
        assert "train/mfu" not in meter.read()
        meter.add(cells=1, seconds=1.0, waited=0.0, work=Work(tokens=5, flops=50))
        assert meter.read()["train/mfu"] == 0.5

    def test_the_time_left_is_in_proportion_to_the_steps(self):
        meter = Meter()
        assert meter.seconds_left(10) is None
        meter.add(cells=1, seconds=1.0, waited=0.0)
        assert meter.seconds_left(0) == 0.0
        assert 0 < meter.seconds_left(10) <= meter.seconds_left(1000)

    def test_memory_is_that_of_a_gpu(self):
        assert device_figures(torch.device("cpu")) == {}


class TestWaiting:
    def run(self, caplog, waited: float, *, steps: int = 200) -> list[str]:
        meter = Meter()
        with caplog.at_level(logging.WARNING, "scmodelforge"):
            for _ in range(steps):
                meter.add(cells=1, seconds=1.0, waited=waited)
        return caplog.messages

    def test_much_of_it_is_said_once_with_the_remedy(self, caplog):
        (message,) = self.run(caplog, 0.34)
        assert message.startswith("34% of the time of the last steps went into waiting for data; use more threads")
        assert "scmodelforge convert" in message

    def test_little_of_it_or_of_a_short_while_is_not(self, caplog):
        assert self.run(caplog, 0.15) == []
        assert self.run(caplog, 1.0, steps=30) == []


class TestWork:
    def test_counts_real_tokens_and_three_times_the_flops_forward(self):
        class Model(torch.nn.Module):
            def forward_flops(self, batch):
                return 10 * len(batch["attention_mask"])

        mask = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
        batches = [{"attention_mask": mask, "num_targets": {"a": 1}}, {"attention_mask": mask, "num_targets": {"a": 0}}]
        assert work_of(Model(), batches) == Work(tokens=6, flops=60)  # a batch without targets is not computed
        assert work_of(torch.nn.Linear(1, 1), batches) == Work(tokens=6, flops=None)
        assert work_of(Model(), [{"X": torch.ones(2, 2), "num_targets": {"a": 1}}]) == Work(tokens=0, flops=None)


class TestPeaks:
    @pytest.mark.parametrize(
        ("name", "tera"),
        [
            ("NVIDIA A100-SXM4-80GB", 312),
            ("NVIDIA A100 80GB PCIe", 312),
            ("NVIDIA A10G", 70),
            ("NVIDIA A10", 125),
            ("NVIDIA H100 80GB HBM3", 989.4),
            ("NVIDIA H100 PCIe", 756),
            ("NVIDIA H200", 989.4),
            ("NVIDIA L4", 121),
            ("NVIDIA L40S", 362),
            ("NVIDIA GeForce RTX 4090", 165.2),
            ("NVIDIA RTX A6000", 154.8),
            ("AMD Instinct MI300X", 1307.4),
        ],
    )
    def test_of_known_gpus(self, name, tera):
        assert peak_flops(name) == pytest.approx(tera * 1e12)

    @pytest.mark.parametrize(
        "name", ["Tesla T4", "Tesla V100-SXM2-16GB", "NVIDIA RTX A1000", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "x"]
    )
    def test_others_have_none(self, name):
        assert peak_flops(name) is None
