from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training import _rng
from scmodelforge.training.setup import (
    _cpu_has_bf16,
    _too_few,
    keep_precision,
    make_fabric,
    resolve_accelerator,
    resolve_precision,
    seed_everything,
)


class TestDevices:
    def test_more_gpus_than_there_are_is_refused_with_the_mend(self):
        found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
        asked = found + 4
        line = rf"training\.num_gpus asks for {asked} GPUs but this machine has {found}; use --set training\.num_gpus="
        with pytest.raises(ConfigError, match=line):
            make_fabric(TrainingConfig(accelerator="gpu", devices=asked))

    def test_the_mend_of_a_machine_without_gpu_is_the_cpu(self):
        assert _too_few(TrainingConfig(accelerator="gpu", devices=4), 0) == (
            "training.num_gpus asks for 4 GPUs but this machine has 0; "
            "use --set training.num_gpus=0 to train on the CPU."
        )

    def test_the_mend_of_too_many_devices_is_their_number_or_the_cpu(self):
        message = _too_few(TrainingConfig(devices=4), 2)
        assert "training.devices asks for 4 GPUs but this machine has 2; use --set training.devices=2, or" in message
        assert "--set training.accelerator=cpu" in message

    def test_processes_on_the_cpu_are_limited_by_its_cores(self):
        assert resolve_accelerator(TrainingConfig(accelerator="cpu", devices=2)) == "cpu"
        with pytest.raises(ConfigError, match="asks for 100000 processes on the CPU but this machine has"):
            resolve_accelerator(TrainingConfig(accelerator="cpu", devices=100_000))

    def test_auto_takes_what_there_is(self):
        has_mps = torch.backends.mps.is_available()
        expected = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
        assert resolve_accelerator(TrainingConfig()) == expected

    def test_several_processes_on_the_cpu_talk_through_gloo(self):
        fabric = make_fabric(TrainingConfig(accelerator="cpu", devices=2))
        assert type(fabric.strategy).__name__ == "DDPStrategy"
        assert fabric.strategy.process_group_backend == "gloo"


class TestPrecision:
    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_a_stated_one_is_kept(self, precision):
        config = TrainingConfig(accelerator="cpu", precision=precision)
        assert make_fabric(config).strategy.precision.precision == precision

    def test_auto_on_the_cpu_follows_its_instructions(self):
        expected = "bf16-mixed" if _cpu_has_bf16() else "32-true"
        assert resolve_precision("auto", "cpu") == expected

    def test_auto_elsewhere_is_full(self):
        assert resolve_precision("auto", "mps") == "32-true"

    def test_a_processor_without_bf16_instructions_has_none(self, tmp_path):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text("flags\t\t: fpu avx2 avx512f avx512bw\n")
        assert not _cpu_has_bf16(cpuinfo)

    def test_a_processor_with_them_has_bf16_if_torch_uses_avx512(self, tmp_path):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text("flags\t\t: fpu avx512f avx512_bf16\nFeatures\t: fp asimd bf16\n")
        is_arm = os.uname().machine in ("aarch64", "arm64")
        assert _cpu_has_bf16(cpuinfo) == (is_arm or torch.backends.cpu.get_cpu_capability() == "AVX512")

    def test_a_system_that_does_not_list_instructions_has_none(self, tmp_path):
        assert not _cpu_has_bf16(tmp_path / "absent")


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]


class TestSeeds:
    def test_the_same_seed_gives_the_same_draws(self):
        seed_everything(3)
        first = draws()
        seed_everything(3)
        assert draws() == first
        seed_everything(4)
        assert not set(draws()) & set(first)

    def test_streams_differ_between_processes(self):
        seen = []
        for seed, rank in [(0, 0), (0, 1), (1, 0)]:
            _rng.seed_stream(seed, rank=rank)
            seen += draws()
        assert len(set(seen)) == len(seen)

    @pytest.mark.parametrize("drawn_before", [0, 1, 2])
    def test_a_state_as_bytes_is_the_whole_state(self, drawn_before):
        seed_everything(0)
        for _ in range(drawn_before):  # normal draws come in pairs, of which one is kept
            draws()
        device = torch.device("cpu")
        states = _rng.snapshot(device)
        expected = [draws(), draws()]
        seed_everything(9)
        _rng.restore(states, device)
        assert [draws(), draws()] == expected
        assert {state.dtype for state in states.values()} == {torch.uint8}

    def test_preserved_leaves_no_trace(self):
        seed_everything(0)
        expected = draws()
        seed_everything(0)
        with _rng.preserved(torch.device("cpu")):
            draws()
        assert draws() == expected


class TestPrecisionOfARunThatGoesOn:
    """``auto`` is what it was when the run began, also on a machine where it would be something else."""

    @pytest.mark.parametrize("here", ["bf16-mixed", "32-true"])
    @pytest.mark.parametrize("recorded", ["bf16-mixed", "32-true"])
    def test_is_the_recorded_one_on_processors(self, monkeypatch, caplog, recorded, here):
        monkeypatch.setattr("scmodelforge.training.setup._cpu_has_bf16", lambda: here == "bf16-mixed")
        caplog.set_level("INFO")
        config = TrainingConfig(accelerator="cpu")
        keep_precision(config, recorded)
        assert resolve_precision(config.precision, "cpu") == recorded
        said = f"auto stays {recorded}, as when the run began (on this machine it would be {here})"
        assert (said in caplog.text) == (recorded != here)

    def test_is_refused_where_it_cannot_be(self, monkeypatch):
        monkeypatch.setattr("scmodelforge.training.setup.resolve_accelerator", lambda config: "mps")
        with pytest.raises(
            ConfigError, match="which was bf16-mixed there, and Apple's GPUs do not compute in bf16; go on"
        ):
            keep_precision(TrainingConfig(), "bf16-mixed")
        config = TrainingConfig()
        keep_precision(config, "32-true")
        assert config.precision == "auto"

    def test_is_that_of_the_settings_where_they_name_one(self):
        config = TrainingConfig(accelerator="cpu", precision="32-true")
        keep_precision(config, "bf16-mixed")
        assert config.precision == "32-true"

    def test_of_older_runs_is_not_known(self):
        config = TrainingConfig(accelerator="cpu")
        keep_precision(config, None)
        assert config.precision == "auto"
