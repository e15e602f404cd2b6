"""Trains the small model in two processes: ``python -m tests.test_training.two_processes FOLDER``.

Writes the runs ``plain``, ``dropout``, ``recipe`` and ``stopped``; the last is like the second, but stopped and
resumed, and only the second process asks for the stop. That process gets no cells of the last, smaller batch of each
pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scmodelforge._errors import Interrupted
from scmodelforge.config.schema import EarlyStoppingConfig, EmaConfig, OptimizerConfig, UnfreezeConfig
from scmodelforge.training._launch import part_ways
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit
from scmodelforge.training.recipe import recipe_callbacks
from scmodelforge.training.setup import make_fabric

from .parts import StopAfter, make_run, settings

SPLIT = (((0, 1), (2, 3)), ((4, 5, 6, 7), ()))


class OnFirst:
    """Stands in for an evaluation, which only the first process has: the value gets worse with each epoch."""

    def on_epoch_end(self, run) -> None:
        run.scores_step = run.progress.step
        if run.fabric.is_global_zero:
            run.scores = {"eval/knn": -float(run.progress.epoch)}


def recipe_settings(**changes):
    """Return settings with averages, gradual unfreezing, a rate by name, and an end after the third epoch."""
    return settings(
        max_epochs=6,
        ema=EmaConfig(decay=0.5),
        unfreeze=[
            UnfreezeConfig(epoch=0, parameters=["value.*", "embedding.*"]),
            UnfreezeConfig(epoch=1, parameters=["hidden.*"]),
        ],
        early_stopping=EarlyStoppingConfig(metric="eval/knn", mode="max", patience=2),
        optimizer=OptimizerConfig(lr=1e-2, weight_decay=0.5, groups=[{"parameters": "value.*", "lr": 3e-2}]),
        **changes,
    )


def main(folder: Path) -> None:
    config = settings(max_epochs=2, devices=2)
    fabric = make_fabric(config)
    fabric.launch()
    for name, dropout in [("plain", 0.0), ("dropout", 0.3)]:
        fit(make_run(folder / name, config=config, fabric=fabric, split=SPLIT, dropout=dropout))
    recipe = recipe_settings(devices=2)
    fit(make_run(folder / "recipe", config=recipe, fabric=fabric, split=SPLIT), recipe_callbacks(recipe, [OnFirst()]))
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
    part_ways(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
