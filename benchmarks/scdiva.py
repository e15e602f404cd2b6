"""Sizes, speed and memory of ScDiVa beside what its specification says of them.

    python benchmarks/scdiva.py --device cuda
    python benchmarks/scdiva.py --device cpu --batch-size 8 --batches 2

First the number of parameters of both presets, counted without memory for them. Then, for the chosen preset, inference
(``encode``: 16-bit weights on a GPU, single precision on a processor) and training (forward, backward and a step of
AdamW; bf16 autocast on a GPU) of cells with one token and with blocks of genes. Cells are drawn: ``--genes`` expressed
genes each, handed over as tokens and laid out on the device, in training 15 % of them hidden. Speed is the median of
the batches after one that does not count, and says nothing of reading data. Memory is the most that tensors took on a
GPU, and the peak of the whole process on a processor; every line has a process of its own.

The specification's figures are of an A100; they are claims, printed for comparison.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch

from scmodelforge.models import ScDiVa

NUM_TYPES = 100
STATED = {
    "base": {"parameters": 350e6, "cells/s": 10_000, "inference": 4, "training": 16},
    "large": {"parameters": 1.5e9, "cells/s": 4_000, "inference": 12, "training": 48},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", choices=list(STATED), default="base")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--genes", type=int, default=2000, help="expressed genes of a cell")
    parser.add_argument("--patches", type=int, default=16)
    parser.add_argument("--skip-training", action="store_true")
    options = parser.parse_args()
    count()
    is_gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if is_gpu else f"processor, {torch.get_num_threads()} threads"
    print(f"\ntorch {torch.__version__}, {name}; {options.preset}, batches of {options.batch_size} cells with "
          f"{options.genes:,} expressed genes, medians of {options.batches}")  # fmt: skip
    print(f"{'':30}{'cells/s':>10}{'stated':>10}{'GiB':>8}{'stated GB':>11}")
    for tokenization in ("profile", "patch"):
        for task in ("inference",) if options.skip_training else ("inference", "training"):
            alone = multiprocessing.get_context("spawn").Process(target=row, args=(options, tokenization, task))
            alone.start()
            alone.join()
            if alone.exitcode:
                raise SystemExit(f"{tokenization}, {task} ended with {alone.exitcode}; try a lower --batch-size")


def count() -> None:
    """Print the number of parameters of the presets, with 100 cell types as the stated numbers suppose."""
    print(f"{'parameters':12}{'ours':>16}{'stated':>16}{'difference':>12}")
    for preset, stated in STATED.items():
        with torch.device("meta"):
            number = ScDiVa.from_preset(preset, num_cell_types=NUM_TYPES).num_parameters()
        print(f"{preset:12}{number:>16,}{stated['parameters']:>16,.0f}{number / stated['parameters'] - 1:>+12.1%}")


def row(options: argparse.Namespace, tokenization: str, task: str) -> None:
    """Measure and print one line, in a process of its own so that memory is that of this line."""
    is_gpu = options.device.startswith("cuda")
    torch.manual_seed(0)
    with torch.device(options.device):
        model = ScDiVa.from_preset(options.preset, tokenization=tokenization, num_patches=options.patches)
    work = inference(model, half=is_gpu) if task == "inference" else training(model, options.device)
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()  # weights were made in single precision
    batches = [cells(options, model.vocab_size, number) for number in range(options.batches + 1)]
    seconds = [timed(work, batch, is_gpu=is_gpu) for batch in batches][1:]
    speed = options.batch_size / statistics.median(seconds)
    bytes_used = (
        torch.cuda.max_memory_allocated() if is_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    stated = STATED[options.preset]
    claim = f"{stated['cells/s']:,}" if task == "inference" else "-"
    what = tokenization if tokenization == "profile" else f"{tokenization}, {options.patches} blocks"
    print(f"{what + ', ' + task:30}{speed:>10,.1f}{claim:>10}{bytes_used / 2**30:>8.1f}{stated[task]:>11}", flush=True)


def inference(model: ScDiVa, *, half: bool) -> Callable[[dict[str, torch.Tensor]], None]:
    model = model.eval().half() if half else model.eval()

    def work(batch: dict[str, torch.Tensor]) -> None:
        with torch.inference_mode():
            model.encode(batch["input_ids"], batch["attention_mask"], batch["values"])

    return work


def training(model: ScDiVa, device: str) -> Callable[[dict[str, torch.Tensor]], None]:
    model.train()
    kind = device.partition(":")[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def work(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
            loss = model(**batch, return_logits=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def cells(options: argparse.Namespace, vocab_size: int, number: int) -> dict[str, torch.Tensor]:
    """Return a batch of drawn cells, with 15 % of their genes to be predicted."""
    draw = torch.Generator().manual_seed(number)
    shape = (options.batch_size, options.genes)
    genes = torch.rand(options.batch_size, vocab_size - 4, generator=draw).topk(options.genes, dim=1).indices + 4
    values = torch.rand(shape, generator=draw) * 4
    labels = torch.where(torch.rand(shape, generator=draw) < 0.15, genes, -100)
    batch = {"input_ids": genes, "attention_mask": torch.ones_like(genes), "values": values, "labels": labels}
    return {name: tensor.to(options.device) for name, tensor in batch.items()}


def timed(work: Callable[[dict[str, torch.Tensor]], None], batch: dict[str, torch.Tensor], *, is_gpu: bool) -> float:
    if is_gpu:
        torch.cuda.synchronize()
    began = time.perf_counter()
    work(batch)
    if is_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
