"""Trains the small model in two processes: ``python -m tests.test_training.two_processes FOLDER``.

Writes the runs ``plain``, ``dropout`` and ``stopped``; the last is like the second, but stopped and resumed, and only
the second process asks for the stop. That process gets no cells of the last, smaller batch of each pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scmodelforge._errors import Interrupted
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit
from scmodelforge.training.setup import make_fabric

from .parts import StopAfter, make_run, settings

SPLIT = (((0, 1), (2, 3)), ((4, 5, 6, 7), ()))


def main(folder: Path) -> None:
    config = settings(max_epochs=2, devices=2)
    fabric = make_fabric(config)
    fabric.launch()
    for name, dropout in [("plain", 0.0), ("dropout", 0.3)]:
        fit(make_run(folder / name, config=config, fabric=fabric, split=SPLIT, dropout=dropout))
    stopped = make_run(folder / "stopped", config=config, fabric=fabric, split=SPLIT, dropout=0.3)
    try:
        fit(stopped, [StopAfter(4)] if fabric.global_rank == 1 else [])
    except Interrupted:
        pass
    else:
        msg = "the stop that one process asked for did not stop the other"
        raise RuntimeError(msg)
    resumed = make_run(folder / "stopped", config=config, fabric=fabric, split=SPLIT, dropout=0.3)
    resumed.checkpoints.load(resumed, Checkpoints.find_last(folder / "stopped" / "checkpoints"))
    fit(resumed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
