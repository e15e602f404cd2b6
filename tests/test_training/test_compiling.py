"""``training.compile`` apart from a run: what it refuses, and what it counts."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError, RunError
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.models import get_model
from scmodelforge.training import compiling
from scmodelforge.training.meter import Meter
from scmodelforge.training.recipe import check_recipe_fits
from scmodelforge.training.setup import make_fabric

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class TestRefusals:
    def test_no_compiler_for_the_cpu(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(ConfigError, match=r"training.compile is true, but torch needs a C\+\+ compiler .* install"):
            make_fabric(TrainingConfig(compile=True, accelerator="cpu"))
        make_fabric(TrainingConfig(accelerator="cpu"))

    def test_a_compiler_that_is_named_and_is_not_there(self, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(ConfigError, match="'no-such-compiler', which CXX names, is not there"):
            compiling.check_can_compile("cpu")

    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
    def test_a_machine_with_a_compiler_is_fine(self, monkeypatch):
        monkeypatch.setenv("CXX", "g++")
        compiling.check_can_compile("cpu")

    def test_gpus_without_triton(self, monkeypatch):
        monkeypatch.setattr(compiling, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"'triton', .* is not installed; pip install triton, or use --set"):
            compiling.check_can_compile("cuda")

    def test_apple_gpus(self):
        with pytest.raises(ConfigError, match=r"training\.accelerator=cpu"):
            compiling.check_can_compile("mps")

    def test_a_model_without_transformer_blocks(self, tiny_config):
        model = get_model("gene_pooling", tiny_config)
        check_recipe_fits(model, TrainingConfig())
        with pytest.raises(ConfigError, match="GenePoolingModel has no transformer blocks"):
            check_recipe_fits(model, TrainingConfig(compile=True))

    def test_an_error_of_the_compiler_is_one_line(self):
        from torch._dynamo.exc import TorchDynamoException

        line = r"torch.compile failed \(no room\); mend that, or start the run with --set training.compile=false"
        with pytest.raises(RunError, match=line), compiling.compile_failures():
            raise TorchDynamoException("no room\nand much more")
        with pytest.raises(ValueError, match="ours"), compiling.compile_failures():
            raise ValueError("ours")


def test_the_seconds_of_compiling_are_counted(tiny_config):
    compiling.compile_blocks(get_model("transformer_encoder", tiny_config))
    before = compiling.compile_seconds()
    compiled = torch.compile(nn.Linear(3, 3), backend="eager")
    compiled(torch.ones(2, 3))
    spent = compiling.compile_seconds()
    assert spent > before
    compiled(torch.ones(2, 3))
    assert compiling.compile_seconds() == spent


def test_time_that_is_spent_once_is_left_out_of_the_time_left():
    meter = Meter()
    meter._began -= 100  # a hundred seconds ago
    meter.forget(90)
    meter.add(cells=8, seconds=10, waited=0)
    assert meter.seconds_left(2) == pytest.approx(20, abs=1)
