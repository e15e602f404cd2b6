"""Trains the small model sharded over two processes: ``python -m tests.test_training.sharded_processes FOLDER``.

Reads the run ``one`` of one process, stopped after step 3, and writes the runs ``plain``, ``dropout``, ``stopped`` (as
the second, stopped and resumed), ``offload``, ``bf16``, ``from_one`` (goes on from ``one``), ``to_ddp`` (goes on from
``plain`` with whole copies of the model), ``from_ddp`` (goes on, sharded, from such a run ``ddp``) and
``stacked`` (another model).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from torch import nn

from scmodelforge._errors import Interrupted
from scmodelforge.config.schema import FsdpConfig
from scmodelforge.training._launch import part_ways
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit
from scmodelforge.training.setup import make_fabric

from .parts import StopAfter, TwoTermModel, make_run, settings
from .two_processes import SPLIT


class Stacked(TwoTermModel):
    """With blocks, a parameter that no loss reaches, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        width = self.hidden.in_features
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(3))
        self.idle = nn.Linear(width, width)
        self.frozen = nn.Parameter(self.idle.weight.detach().clone(), requires_grad=False)
        inner = self.hidden
        self.hidden = nn.Sequential(inner, *self.blocks)


def launched(**changes):
    fabric = make_fabric(settings(devices=2, **changes))
    fabric.launch()
    return fabric


def run_to_end(folder: Path, fabric, *, checkpoint: Path | None = None, **options):
    run = make_run(folder, config=settings(max_epochs=2, devices=2), fabric=fabric, split=SPLIT, **options)
    if checkpoint is not None:
        run.checkpoints.load(run, checkpoint)
    fit(run)
    return run


def half_way(folder: Path) -> Path:
    return folder / "checkpoints" / "step_00000003"


def main(folder: Path) -> None:
    fabric = launched(strategy="fsdp")
    run = run_to_end(folder / "plain", fabric)
    shares = [[p.to_local().numel(), p.numel(), str(p.dtype)] for p in run.model.parameters()]
    (folder / f"shares_{fabric.global_rank}.json").write_text(json.dumps(shares))
    run_to_end(folder / "dropout", fabric, dropout=0.3)
    stopped = make_run(folder / "stopped", config=run.config, fabric=fabric, split=SPLIT, dropout=0.3)
    try:
        fit(stopped, [StopAfter(4)] if fabric.global_rank == 1 else [])
    except Interrupted:
        last = Checkpoints.find_last(folder / "stopped" / "checkpoints")
        run_to_end(folder / "stopped", fabric, checkpoint=last, dropout=0.3)
    run_to_end(folder / "stacked", fabric, model=Stacked)
    run_to_end(folder / "from_one", fabric, checkpoint=half_way(folder / "one"))
    run_to_end(folder / "offload", launched(strategy="fsdp", fsdp=FsdpConfig(cpu_offload=True)))
    run_to_end(folder / "bf16", launched(strategy="fsdp", precision="bf16-mixed"))
    whole = launched(strategy="ddp")
    run_to_end(folder / "to_ddp", whole, checkpoint=half_way(folder / "plain"))
    run_to_end(folder / "ddp", whole)
    run_to_end(folder / "from_ddp", fabric, checkpoint=half_way(folder / "ddp"))
    part_ways(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
