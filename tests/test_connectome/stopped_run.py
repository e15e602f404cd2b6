"""A command that is sent the signal of Ctrl-C once the second fold of the first seed is written.

``python -m tests.test_connectome.stopped_run connectome train ...``
"""

from __future__ import annotations

import os
import runpy
import signal

from scmodelforge.workflows.connectome.folder import ConnectomeFolder

_write = ConnectomeFolder.write_fold


def _write_and_stop(self, fold, result):
    _write(self, fold, result)
    if fold.name == "seed0_fold2":
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore it
    ConnectomeFolder.write_fold = _write_and_stop
    runpy.run_module("scmodelforge", run_name="__main__")
