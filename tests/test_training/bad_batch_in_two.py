"""Trains in two processes, of which only the second meets a bad batch: ``python -m tests... FOLDER``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch

from scmodelforge.config.schema import GuardsConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training._launch import part_ways
from scmodelforge.training.batch_records import BatchRecords
from scmodelforge.training.loop import fit
from scmodelforge.training.setup import make_fabric
from scmodelforge.workflows.batch_size import _least

from .parts import TwoTermModel, make_run, settings
from .two_processes import SPLIT


def main(folder: Path) -> None:
    config = settings(max_epochs=2, devices=2, guards=GuardsConfig(max_skipped_steps=1))
    fabric = make_fabric(config)
    fabric.launch()

    class BadOnTheSecond(TwoTermModel):
        def set_step(self, step: int) -> None:
            self.is_bad = self.training and step == 1 and fabric.global_rank == 1

        def forward(self, *args, **kwargs):
            terms = super().forward(*args, **kwargs).loss_terms
            factor = math.nan if self.is_bad else 1.0
            terms = {name: term * factor for name, term in terms.items()}
            return ModelOutput(loss=sum(terms.values()), loss_terms=terms)

    run = make_run(folder / "run", config=config, fabric=fabric, split=SPLIT, model=BadOnTheSecond)
    run.guards.records = BatchRecords(folder / "run")
    fit(run)
    total = torch.stack([p.detach().double().sum() for p in run.model.parameters()]).sum()
    found = {"skipped": run.guards.skipped, "weights": float(total), "least": _least(fabric, 8 - fabric.global_rank)}
    (folder / f"{fabric.global_rank}.json").write_text(json.dumps(found))
    part_ways(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
