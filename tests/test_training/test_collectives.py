from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("found")
    script = [sys.executable, "-m", "tests.test_training.collectives_of_two", str(folder)]
    result = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_step_has_two_small_collectives_beside_the_gradients(found, strategy):
    for process in found:
        assert len(process[strategy]) == 6
        # The third step of a pass has no cells for the second process; a sharded model finds it others, once.
        assert process[strategy].count({"all_reduce": 2}) >= 5
        assert all(step["all_reduce"] <= 3 for step in process[strategy])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_stop_that_one_process_asks_for_is_at_that_step(found, strategy):
    assert all("stopped after step 7 of 9; saved as" in process[f"{strategy}_stop"] for process in found)


def test_what_is_gathered_is_stacked_by_process(found):
    assert [process["gathered"] for process in found] == [[[[0, 7]], [[1, 7]]]] * 2


def test_the_others_wait_for_the_first_one_longer_than_their_patience(found):
    assert all(process["waited"] >= 4 for process in found)
