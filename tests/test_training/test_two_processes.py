from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge.training.loop import fit
from scmodelforge.training.recipe import recipe_callbacks

from .parts import StandInLoader, curve, make_run, settings, weights
from .two_processes import SPLIT, OnFirst, recipe_settings


@pytest.mark.distributed
def test_two_processes_train_as_one_and_resume_as_if_unbroken(tmp_path):
    # Of a pass of 20 cells the last batch has 4: the second process gets none of them.
    assert [len(batch["cell_index"]) for batch in StandInLoader(SPLIT, rank=1).batch(2)] == [0, 0]
    script = [sys.executable, "-m", "tests.test_training.two_processes", str(tmp_path)]
    result = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr

    fit(make_run(tmp_path / "one", config=settings(max_epochs=2)))
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "plain"), strict=True):
        assert one == pytest.approx(two, abs=1e-5)

    recipe = recipe_settings()
    one = make_run(tmp_path / "one_recipe", config=recipe)
    frozen = weights(one)["norm.weight"]
    fit(one, recipe_callbacks(recipe, [OnFirst()]))
    assert one.progress.epoch == 3  # of 6
    for alone, both in zip(curve(tmp_path / "one_recipe"), curve(tmp_path / "recipe"), strict=True):
        assert alone == pytest.approx(both, abs=1e-5)
    saved = Path("checkpoints") / "step_00000009"
    assert torch.equal(load_file(tmp_path / "recipe" / saved / "model" / "model.safetensors")["norm.weight"], frozen)
    moments = load_file(tmp_path / "recipe" / saved / "state.safetensors")
    assert "exp_avg.hidden.weight" in moments
    assert not any("norm" in name for name in moments if name.startswith("exp_avg"))

    assert curve(tmp_path / "stopped") == curve(tmp_path / "dropout")
    last = Path("checkpoints") / "step_00000006" / "model" / "model.safetensors"
    stopped, unbroken = (load_file(tmp_path / name / last) for name in ("stopped", "dropout"))
    assert all((stopped[name] == value).all() for name, value in unbroken.items())
    states = load_file(tmp_path / "dropout" / "checkpoints" / "step_00000006" / "state.safetensors")
    assert (states["rng.0.torch"] != states["rng.1.torch"]).any()  # each process has its own dropout
