"""A process forked while loops are being compiled does not wait for the thread that did so."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("numba")

FORK = """
import os, sys, time
import numpy as np
from scmodelforge.data import _kernels
_kernels.warm_up()
time.sleep(float(sys.argv[1]))
child = os.fork()
if not child:
    values, one = np.ones(3, np.float32), np.ones(1, np.int64)
    out = np.zeros(3, np.float32)
    _kernels.copy_rows(values, one * 0, one * 3, one * 0, out)
    os._exit(0 if out.all() else 1)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
sys.exit("the child hangs")
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.2, 0.6])
def test_the_child_can_use_the_loops(delay, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(delay)],
        env={"PATH": "/usr/bin", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
