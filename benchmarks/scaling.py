"""Steps a second on N devices beside one with the same batch on each: efficiency, and the share of communication.

The real training step (``training.loop.train_step``) of a transformer encoder on made-up cells, without data loading.

    python benchmarks/scaling.py --devices 4 --device cuda --strategy ddp

Efficiency is the rate of steps with N devices over that with one, each with the same number of cells a step; the goal
is more than 85 % on four GPUs. Communication is the time in which at least one collective is under way, as
torch.profiler sees it (``nccl`` kernels on a GPU, ``gloo`` operations on the CPU), over the time of the profiled steps,
on the first device: what overlaps with computing counts too, so that it can exceed what efficiency lost. On a CPU the
processes share cores and talk through gloo; that only shows that the program runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scmodelforge.config.schema import FsdpConfig, OptimizerConfig, SchedulerConfig, TrainingConfig
from scmodelforge.models import TransformerEncoder
from scmodelforge.training.devices import set_up
from scmodelforge.training.loop import Run, train_step
from scmodelforge.training.optim import build_optimizer, build_scheduler
from scmodelforge.training.setup import make_fabric, seed_everything

GOAL, RATIO = 0.85, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--offload", action="store_true", help="training.fsdp.cpu_offload")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cells", type=int, default=16, help="on each device and step")
    parser.add_argument("--tokens", type=int, default=512, help="of a cell")
    parser.add_argument("--vocab", type=int, default=20_275)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what the processes themselves are told
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    one, many = (measured(options, number) for number in (1, options.devices))
    report(options, one, many)


def measured(options: argparse.Namespace, devices: int) -> dict[str, Any]:
    """Return what processes of their own measure."""
    changes = {"devices": devices, "strategy": "ddp" if devices == 1 else options.strategy}
    given = {name: value for name, value in {**vars(options), **changes}.items() if name not in ("measure", "offload")}
    words = [f"--{name}={value}" for name, value in given.items()]
    words += ["--offload"] if options.offload and devices > 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        subprocess.run([sys.executable, __file__, *words, f"--measure={result}"], check=True, env=env)
        return json.loads(result.read_text())


def report(options: argparse.Namespace, one: dict[str, Any], many: dict[str, Any]) -> None:
    where = f"{options.devices} x {options.device}, {options.strategy}, {many['precision']}"
    what = f"{options.cells} cells of {options.tokens} tokens on each, {many['parameters'] / 1e6:.1f} M parameters"
    print(f"torch {torch.__version__}, {where}; {what}; medians of {options.steps} steps (least, most)")
    for name, found in (("1 device", one), (f"{options.devices} devices", many)):
        rates = found["rates"]
        print(
            f"{name:>12}: {statistics.median(rates):8.3f} steps/s ({min(rates):.3f}, {max(rates):.3f}), "
            f"in collectives {found['communication']:6.1%} of the time"
        )
    efficiency = statistics.median(many["rates"]) / statistics.median(one["rates"])
    is_claim = options.device == "cuda" and options.devices == 4
    verdict = ("met" if efficiency > GOAL else "missed") if is_claim else "not decided by this run"
    print(f"  efficiency: {efficiency:.1%}; goal: more than {GOAL:.0%} on 4 GPUs: {verdict}")
    if options.device == "cpu":
        cores = os.cpu_count()
        print(f"A stand-in: {options.devices} processes share {cores} cores and talk through gloo. No claim follows.")


class Cells:
    """Stands in for a loader: the same cells in every step."""

    steps_per_pass, wait_seconds = 1, 0.0

    def mark_consumed(self) -> None:
        """Nothing is read."""


def measure(options: argparse.Namespace) -> None:
    config = TrainingConfig(
        batch_size=options.cells,
        devices=options.devices,
        accelerator="gpu" if options.device == "cuda" else "cpu",
        strategy=options.strategy if options.devices > 1 else "auto",
        fsdp=FsdpConfig(cpu_offload=options.offload),
        precision=options.precision,
        optimizer=OptimizerConfig(),
        scheduler=SchedulerConfig(),
    )
    fabric = make_fabric(config)
    fabric.launch()
    seed_everything(0)
    objective, optimizer = set_up(
        fabric,
        lambda: TransformerEncoder(
            options.vocab, options.width, options.layers, options.heads, max_seq_len=options.tokens
        ),
        lambda model: build_optimizer(model, config.optimizer),
    )
    run = Run(
        fabric=fabric,
        objective=objective,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, config.scheduler, 10**6),
        train_loader=Cells(),  # type: ignore[arg-type]
        config=config,
    )
    batch = made_up(options, fabric.global_rank)
    for _ in range(3):
        train_step(run, [batch])
    rates = [1 / seconds_of(lambda: train_step(run, [batch]), options.device) for _ in range(options.steps)]
    communication = share_of_collectives(lambda: train_step(run, [batch]), options.device)
    if fabric.is_global_zero:
        count = sum(parameter.numel() for parameter in run.model.parameters())
        found = {"rates": rates, "communication": communication, "parameters": count}
        options.measure.write_text(json.dumps({**found, "precision": fabric._precision.precision}))
    fabric.barrier()


def made_up(options: argparse.Namespace, rank: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(rank)
    shape = (options.cells, options.tokens)
    ids = torch.randint(4, options.vocab, shape, generator=draw)
    is_target = torch.rand(shape, generator=draw) < RATIO
    labels = torch.where(is_target, ids, -100)
    counts = {"masked_gene": int(is_target.sum())}
    inputs = {"input_ids": torch.where(is_target, 2, ids), "attention_mask": torch.ones(shape, dtype=torch.long)}
    return {**inputs, "labels": labels, "num_targets": counts}


def seconds_of(step: Any, device: str) -> float:
    began = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def share_of_collectives(step: Any, device: str, num_steps: int = 3) -> float:
    """Return the share of the time in which at least one collective is under way."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as found:
        began = time.perf_counter()
        for _ in range(num_steps):
            seconds_of(step, device)
        seconds = time.perf_counter() - began
    prefix = "nccl" if device == "cuda" else "gloo:"
    on_device = torch.autograd.DeviceType.CUDA if device == "cuda" else torch.autograd.DeviceType.CPU
    events = [event for event in found.events() if event.name.startswith(prefix) and event.device_type == on_device]
    return covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / seconds


def covered(ranges: Any) -> float:
    """Return the length of the union of ranges."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


if __name__ == "__main__":
    main()
