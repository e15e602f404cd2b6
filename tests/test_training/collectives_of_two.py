"""Counts what two processes say to each other: ``python -m tests.test_training.collectives_of_two FOLDER``."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from scmodelforge._errors import Interrupted
from scmodelforge.training import _waiting
from scmodelforge.training._launch import part_ways
from scmodelforge.training._targets import all_gather
from scmodelforge.training.loop import fit
from scmodelforge.training.setup import make_fabric

from .parts import StopAfter, make_run, settings
from .two_processes import SPLIT

NAMES = ("all_reduce", "all_gather", "all_gather_into_tensor", "broadcast", "barrier", "broadcast_object_list")


class Counted:
    """Counts the calls between the ends of two steps."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.steps: list[dict[str, int]] = []
        for name in NAMES:
            setattr(torch.distributed, name, self.counting(name, getattr(torch.distributed, name)))

    def counting(self, name, original):
        def call(*args, **kwargs):
            self.now[name] += 1
            return original(*args, **kwargs)

        return call

    def on_step_end(self, run) -> None:
        self.steps.append(dict(self.now))
        self.now.clear()


def main(folder: Path) -> None:
    fabric = make_fabric(settings(devices=2))
    fabric.launch()
    rank, found = fabric.global_rank, {}
    found["gathered"] = all_gather(fabric, torch.tensor([[rank, 7]], dtype=torch.uint8)).tolist()
    counted = Counted()
    for strategy in ("ddp", "fsdp"):
        # Nothing is logged but at the end of the epoch, which is far away.
        config = settings(devices=2, strategy=strategy, steps_per_epoch=9, max_epochs=1, log_every_n_steps=9)
        other = make_fabric(config)
        other.launch()
        run = make_run(folder / strategy, config=config, fabric=other, split=SPLIT)
        try:
            fit(run, [counted, *([StopAfter(7)] if rank == 1 else [])])
        except Interrupted as stop:
            found[f"{strategy}_stop"] = str(stop)
        found[strategy], counted.steps = counted.steps[1:], []
        counted.now.clear()
    _waiting.PATIENCE = _waiting.PATIENCE.__class__(seconds=2)
    _waiting._SECONDS_BETWEEN_BEATS = 0.1
    began = time.monotonic()
    with _waiting.others_waiting(fabric):
        if rank == 0:
            time.sleep(4)
    found["waited"] = time.monotonic() - began
    fabric.barrier()
    (folder / f"{rank}.json").write_text(json.dumps(found))
    part_ways(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
