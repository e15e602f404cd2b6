"""What the training loop costs beside bare steps, and how long checkpoints keep it waiting.

The first part trains as ``scmodelforge train`` does, from a file to logged metrics, and in turns takes bare steps with
a copy of the model on the very batches of the turn before, collated and on the device already: forward pass, backward
pass, optimiser, nothing else. The model is that of train_step.py: width 256, 4 layers, 8 heads, batches of 16 cells
with at most 512 tokens.

The second part trains a model of 50 million parameters (width 512, 13 layers) and saves every few steps. The seconds
that training waits for one checkpoint are held against an epoch of 1,000 steps of the time measured: by default a
checkpoint is written at the end of each epoch, and 1,000 steps of 32 cells are one pass over 32,000 cells, which is
a small data set.

    python benchmarks/train_loop.py
    python benchmarks/train_loop.py --data lung.h5ad --accelerator gpu --repeats 20
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader_data import make, warm

from scmodelforge.config.load import load_config
from scmodelforge.training._targets import to_device
from scmodelforge.training.loop import Run, fit
from scmodelforge.training.setup import make_fabric
from scmodelforge.workflows.config_hash import config_hash
from scmodelforge.workflows.prepare import prepare_data
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.training_run import TrainingRun

SMALL = {"hidden_dim": 256, "num_layers": 4, "num_heads": 8}
LARGE = {"hidden_dim": 512, "num_layers": 13, "num_heads": 8}
LONGEST, WARM_UP, GOAL, EPOCH, MOST_BLOCKED = 512, 4, 0.90, 1000, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, help="AnnData files; by default random counts of 20,000 genes")
    parser.add_argument("--cells", type=int, default=4_000, help="cells of the random counts")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="steps of each turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checkpoints", type=int, default=4, help="checkpoints of the second part")
    parser.add_argument("--between", type=int, default=3, help="steps between two of them")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--precision", default="bf16-mixed", choices=["bf16-mixed", "32-true"])
    parser.add_argument("--workers", type=int, default=1, help="data.num_workers")
    parser.add_argument("--part", choices=["loop", "checkpoints", "both"], default="both")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.accelerator == "gpu" else f"{os.cpu_count()} cores"
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {options.precision}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data is None:
            options.data = [folder / "cells.h5ad"]
            make(options.data[0], options.cells, "gzip")
        for path in options.data:
            warm(path)
        if options.part != "checkpoints":
            compare(folder, options)
        if options.part != "loop":
            save(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Print the rate of the loop beside that of bare steps."""
    steps = WARM_UP + options.steps * options.repeats
    run = assemble(folder / "loop", options, SMALL, {"max_epochs": 1, "steps_per_epoch": steps})
    turns = Turns(run, options)
    run.val_loader = None
    run.train_loader = turns
    fit(run, [turns])
    print(
        f"\nloop: {number_of(run.model):,.1f}M parameters, {options.repeats} turns of {options.steps} steps of "
        f"{options.batch_size} cells, {turns.tokens / turns.cells:.0f} tokens a cell; {options.workers} data threads, "
        "no validation; medians (least, most)"
    )
    print(f"{'':12} {'ms a step':>24} {'cells/s':>9} {'tokens/s':>10} {'CPU ms a step':>14}")
    for name in ("bare", "loop"):
        wall, cpu = np.array(turns.seconds[name]).T / options.steps
        seconds = np.median(wall) * options.steps * options.repeats
        spread = f"{1e3 * np.median(wall):,.1f} ({1e3 * wall.min():,.1f}, {1e3 * wall.max():,.1f})"
        rates = f"{turns.cells / seconds:>9,.1f} {turns.tokens / seconds:>10,.0f}"
        print(f"{name:12} {spread:>24} {rates} {1e3 * np.median(cpu):>14,.1f}")
    bare, loop = (np.array(turns.seconds[name]) for name in ("bare", "loop"))
    for what, column in (("clock", 0), ("CPU, data threads included", 1)):
        ratio = bare[:, column] / loop[:, column]
        print(f"rate of the loop ({what}): {np.median(ratio):.1%} ({ratio.min():.1%}, {ratio.max():.1%}) of bare steps")
    share = turns.waited / sum(seconds for seconds, _ in turns.seconds["loop"])
    print(f"waiting for data: {share:.2%} of the loop; aim: {GOAL:.0%} of bare steps by the clock")


class Turns:
    """A callback that takes bare steps after each turn of the loop, and the loader that keeps the batches for it."""

    def __init__(self, run: Run, options: argparse.Namespace) -> None:
        self.loader, self.options, self.device = run.train_loader, options, run.fabric.device
        self.model = copy.deepcopy(run.model).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.batches: list[list[Any]] = []
        self.seconds: dict[str, list[tuple[float, float]]] = {"bare": [], "loop": []}
        self.cells = self.tokens = 0
        self.waited = self.waited_before = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Any:
        for micro_batches in self.loader:
            self.batches.append(micro_batches)
            yield micro_batches

    def on_step_end(self, run: Run) -> None:
        """Take a turn of bare steps when it is time; the clock of the loop stands still meanwhile."""
        done = run.progress.step - WARM_UP
        if done < 0 or done % self.options.steps:
            return
        synchronise(self.device)
        if done:
            self.seconds["loop"].append(since(self.began))
            self.waited += self.loader.wait_seconds - self.waited_before
        batches = [batch for micro in self.batches[-self.options.steps :] for batch in micro]
        seconds = self.bare([to_device(batch, self.device) for batch in batches])
        if done:
            self.seconds["bare"].append(seconds)
            self.cells += sum(len(batch["input_ids"]) for batch in batches)
            self.tokens += sum(int((batch["attention_mask"] > 0).sum()) for batch in batches)
        self.batches.clear()
        self.waited_before = self.loader.wait_seconds
        self.began = now()

    def bare(self, batches: list[dict[str, Any]]) -> tuple[float, float]:
        began = now()
        for batch in batches:
            tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
            is_mixed = self.options.precision == "bf16-mixed"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_mixed):
                loss = self.model(**tensors, return_logits=False).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        synchronise(self.device)
        return since(began)


def save(folder: Path, options: argparse.Namespace) -> None:
    """Print how long training waits for checkpoints."""
    training = {"max_epochs": options.checkpoints, "steps_per_epoch": options.between}
    run = assemble(folder / "large", options, LARGE, training)
    run.val_loader = None
    assert run.checkpoints is not None
    clock = Clock()
    fit(run, [clock])
    size = sum(path.stat().st_size for path in run.checkpoints.last.rglob("*") if path.is_file())
    step = float(np.median(clock.steps[1:]))
    print(
        f"\ncheckpoints: {number_of(run.model):,.1f}M parameters, {size / 1e6:,.0f} MB each, one every "
        f"{options.between} steps of {options.batch_size} cells; a step takes {step:.3g} s (median)"
    )
    first, later = clock.blocked[0], float(np.median(clock.blocked[1:]))
    print(f"training waits {first:.3f} s for the first, {later:.3f} s for each later one; {run.checkpoints.waits} of")
    print(f"{options.checkpoints} found the one before unfinished")
    beside = float(np.median(clock.after_save)) / step - 1
    print(f"the step beside a write takes {beside:+.1%} longer (it has the disk and one core for itself no more)")
    share = later / (later + EPOCH * step)
    print(f"blocked: {share:.3%} of an epoch of {EPOCH:,} steps; aim: less than {MOST_BLOCKED:.0%}")


class Clock:
    """A callback that notes the time of each step, and how long each checkpoint was waited for."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.after_save: list[float] = []
        self.blocked: list[float] = []

    def on_fit_start(self, run: Run) -> None:
        self.began, self.before = time.perf_counter(), 0.0

    def on_step_end(self, run: Run) -> None:
        synchronise(run.fabric.device)
        seconds = time.perf_counter() - self.began
        blocked = run.checkpoints.seconds_blocked - self.before
        if blocked:
            self.blocked.append(blocked)
            self.after_save.append(seconds - blocked)
        else:
            self.steps.append(seconds)
        self.began, self.before = time.perf_counter(), run.checkpoints.seconds_blocked


def assemble(root: Path, options: argparse.Namespace, model: dict[str, int], training: dict[str, int]) -> Run:
    """Return a run as the command makes it."""
    settings = {
        "data": {"paths": [str(path) for path in options.data], "gene_vocab": "from_data", "split": {"by": "cells"}},
        "tokenizer": {"strategy": "rank_value", "max_genes": LONGEST},
        "model": {"architecture": "transformer_encoder", "max_seq_len": LONGEST, **model},
        "training": {"accelerator": options.accelerator, "precision": options.precision, **training},
        "output": {"run_dir": str(root)},
    }
    settings["data"]["num_workers"] = options.workers
    settings["training"]["batch_size"] = options.batch_size
    path = root.with_suffix(".yaml")
    path.write_text(json.dumps(settings))  # which is YAML too
    config = load_config(path)
    folder = RunFolder.of(config, name=root.name)
    data = prepare_data(config)
    facts = {
        "config_hash": config_hash(config),
        "data": data.source.fingerprint(),
        "split_hash": data.split.to_dict()["hash"],
        "num_train": len(data.split.train),
        "num_validation": len(data.split.validation),
        "num_empty": data.num_empty,
    }
    fabric = make_fabric(config.training)
    fabric.launch()
    run, _ = TrainingRun(config, folder, data, fabric, facts).assemble()
    folder.create(config, data.split, facts)
    return run


def number_of(model: torch.nn.Module) -> float:
    """Return the parameters of a model, in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds since some moment: of the clock, and of the processor."""
    return time.perf_counter() - began[0], time.process_time() - began[1]


if __name__ == "__main__":
    main()
