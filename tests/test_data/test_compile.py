"""When loops are compiled."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scmodelforge.data._compile import compiled, expect_many, inner

pytest.importorskip("numba")


@inner
def _twice(number):
    return 2 * number


@inner
def _four_times(number):
    return _twice(_twice(number))


@compiled
def _sum_of_fours(numbers):
    total = 0
    for number in numbers:
        total += _four_times(number)
    return total


def test_few_numbers_are_not_worth_it_until_many_are_to_come():
    assert _sum_of_fours(10) is None
    expect_many()
    assert _sum_of_fours(10) is not None


def test_what_is_called_within_is_compiled_too():
    import numpy as np

    assert _sum_of_fours(1 << 20)(np.arange(5)) == 40


def test_a_loader_of_many_cells_loads_numba_ahead():
    script = """
import sys, threading
from tests.test_data.loading import make_loader
assert "numba" not in sys.modules
make_loader(sizes=(9000,), order_changes={"block_size": 64, "buffer_size": 512})
[thread.join() for thread in threading.enumerate() if thread.name == "scmodelforge-warm-up"]
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
