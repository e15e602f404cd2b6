from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge.training.loop import fit

from .parts import curve, make_run, settings
from .sharded_processes import Stacked, half_way

pytestmark = [pytest.mark.distributed, pytest.mark.slow]  # two processes take turns with everything: in .ci/full


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """All runs of two processes, and ``one`` and ``one_stacked`` of one process."""
    folder = tmp_path_factory.mktemp("runs")
    fit(make_run(folder / "one", config=settings(max_epochs=2), save_top_k=9))
    fit(make_run(folder / "one_stacked", config=settings(max_epochs=2), model=Stacked))
    script = [sys.executable, "-m", "tests.test_training.sharded_processes", str(folder)]
    result = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return folder


def test_each_process_holds_about_half_of_the_parameters(runs):
    shares = [json.loads((runs / f"shares_{rank}.json").read_text()) for rank in (0, 1)]
    total = sum(whole for _, whole, _ in shares[0])
    held = [sum(own for own, _, _ in share) for share in shares]
    assert sum(held) == total
    assert max(held) < 0.55 * total


@pytest.mark.parametrize(
    ("name", "tolerance"), [("plain", 1e-5), ("offload", 1e-5), ("bf16", 3e-2)], ids=["plain", "offload", "bf16"]
)
def test_two_processes_train_as_one(runs, name, tolerance):
    """Sums of floats over two processes: 1e-5 is what the order of additions costs in float32 here."""
    for one, two in zip(curve(runs / "one"), curve(runs / name), strict=True):
        assert one == pytest.approx(two, abs=tolerance, rel=tolerance)


def test_blocks_parameters_that_no_loss_reaches_and_frozen_ones_train_as_in_one_process(runs):
    for one, two in zip(curve(runs / "one_stacked"), curve(runs / "stacked"), strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_weights_stay_in_float32_where_blocks_compute_in_bf16(runs):
    assert {value.dtype for value in load_file(model_of(runs / "bf16")).values()} == {torch.float32}


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(runs):
    assert curve(runs / "stopped") == curve(runs / "dropout")
    assert_same_files(runs / "stopped", runs / "dropout")


def test_what_one_process_wrote_is_gone_on_with_by_two(runs):
    later = [record for record in curve(runs / "one") if record["step"] > 3]
    for one, two in zip(later, curve(runs / "from_one"), strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_what_two_processes_wrote_is_gone_on_with_by_one(runs, tmp_path):
    run = make_run(tmp_path, config=settings(max_epochs=2))
    run.checkpoints.load(run, half_way(runs / "plain"))
    fit(run)
    later = [record for record in curve(runs / "one") if record["step"] > 3]
    for one, two in zip(later, curve(tmp_path), strict=True):
        assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("name", ["to_ddp", "from_ddp"])
def test_sharded_runs_and_those_with_whole_copies_go_on_with_each_other(runs, name):
    later = [record for record in curve(runs / "plain") if record["step"] > 3]
    for unbroken, changed in zip(later, curve(runs / name), strict=True):
        assert unbroken == pytest.approx(changed, abs=1e-5)


def test_checkpoints_have_the_form_of_one_process(runs):
    names = ("model/model.safetensors", "state.safetensors")
    for name in names:
        one, two = (load_file(half_way(runs / run) / name) for run in ("one", "plain"))
        expected = {key: value.shape for key, value in one.items() if not key.startswith("rng.")}
        assert {key: value.shape for key, value in two.items() if not key.startswith("rng.")} == expected


def model_of(folder: Path) -> Path:
    return folder / "checkpoints" / "step_00000006" / "model" / "model.safetensors"


def assert_same_files(first: Path, second: Path) -> None:
    one, two = load_file(model_of(first)), load_file(model_of(second))
    assert set(one) == set(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
