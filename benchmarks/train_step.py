"""Time of a training step of the transformer encoder beside torch's own, in turns, both in bf16 unless told otherwise.

20,275 tokens, width 256, 4 layers, 8 heads, batches of 16 cells with at most 512 tokens, whose numbers of expressed
genes are those of given files, 15 % of the tokens hidden. Beside it ``nn.TransformerEncoder`` as models are usually
written: cells padded to the longest a model takes, dropout 0.1, scores of all genes at all positions. The strict row
takes the advantages of usage away: no dropout, cells padded to the longest of the batch; what is left is packing and
scoring of hidden genes only. The last lines give the peak memory of a step with scores of hidden genes only and of all.

    python benchmarks/train_step.py --lengths cells.h5ad more.h5ad

On a GPU (``--device cuda``) it also prints which share of the dense bf16 peak (``--peak``, in TFLOP/s) the work on real
tokens comes to: 6 FLOPs for each weight of the layers and real token, 12 x width x length for attention in each layer
and real token, 6 x width x vocabulary for each hidden gene.

With ``--compile`` the encoder is compared with itself under ``training.compile`` instead, with a dropout of 0.1; what
compiling took is printed too, and counts for nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from scmodelforge.models import TransformerEncoder
from scmodelforge.training.compiling import compile_blocks, compile_seconds

VOCAB, WIDTH, LAYERS, HEADS, MOST, CELLS, RATIO = 20_275, 256, 4, 8, 512, 16, 0.15
GOALS = {"usual": 3.0, "strict": 2.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", nargs="+", type=Path, required=True, help="AnnData files")
    parser.add_argument("--batches", type=int, default=4, help="batches of each turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="bf16 is autocast")
    parser.add_argument("--peak", type=float, help="dense bf16 peak of the device, in TFLOP/s")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--compile", action="store_true", help="compare ours with itself under training.compile")
    options = parser.parse_args()
    torch.manual_seed(0)
    lengths = lengths_of(options.lengths)
    batches = [batch_of(lengths, number, options.device) for number in range(options.batches)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    where = f"{torch.get_num_threads()} threads, {options.device}, {options.dtype}"
    what = f"{CELLS} cells, {tokens / options.batches / CELLS:.0f} tokens a cell"
    print(
        f"torch {torch.__version__}, {where}; {options.batches} batches of {what}; width {options.width}, "
        f"{options.layers} layers; medians of {options.repeats} (least, most)"
    )
    if options.compile:
        compare_compiled(options, batches, tokens)
        return
    for row, dropout, longest in (("usual", 0.1, True), ("strict", 0.0, False)):
        compare(row, options, batches, tokens, dropout=dropout, pads_to_most=longest)
    memory(options, batches[0])


def lengths_of(paths: list[Path]) -> np.ndarray:
    """Return the number of tokens of each cell of some files."""
    import anndata as ad

    found = [np.asarray((ad.read_h5ad(path).X != 0).sum(axis=1)).ravel() for path in paths]
    return np.minimum(np.concatenate(found) + 1, MOST)


def batch_of(lengths: np.ndarray, number: int, device: str) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(number)
    drawn = torch.tensor(rng.choice(lengths, CELLS))
    mask = torch.arange(int(drawn.max())) < drawn[:, None]
    ids = torch.randint(4, VOCAB, mask.shape) * mask
    is_target = mask & (torch.rand(mask.shape) < RATIO)
    labels = torch.where(is_target, ids, -100)
    batch = {"input_ids": torch.where(is_target, 2, ids), "attention_mask": mask.long(), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


class Usual(nn.Module):
    """Torch's encoder with an embedding and scores of all genes."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.genes, self.places = nn.Embedding(VOCAB, width, padding_idx=0), nn.Embedding(MOST, width)
        layer = nn.TransformerEncoderLayer(width, HEADS, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, VOCAB)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        states = self.genes(input_ids) + self.places.weight[: input_ids.shape[1]]
        states = self.encoder(states, src_key_padding_mask=attention_mask == 0)
        return F.cross_entropy(self.head(states).flatten(0, 1).float(), labels.flatten())


def memory(options: argparse.Namespace, batch: dict[str, torch.Tensor]) -> None:
    """Print the peak memory of a forward and backward pass beyond the weights, without and with all scores."""
    for what, wants_all in (("scores of hidden genes", False), ("scores of all positions", True)):
        if options.device == "cpu":
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                peak = process.submit(peak_memory, options, batch, wants_all).result()
        else:
            peak = peak_memory(options, batch, wants_all)
        print(f"peak memory with {what}: {peak / 2**20:,.0f} MiB beyond the weights")


def peak_memory(options: argparse.Namespace, batch: dict[str, torch.Tensor], wants_all: bool) -> int:
    """Return the bytes of a forward and backward pass at their peak, beyond those of the model."""
    model = TransformerEncoder(VOCAB, options.width, options.layers, HEADS, max_seq_len=MOST).to(options.device)
    used = resident(options.device)
    with autocast(options):
        loss = model(**batch, return_logits=wants_all).loss
    loss.backward()
    return resident(options.device) - used


def resident(device: str) -> int:
    """Return the most memory used so far: by the process, or on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()  # what getrusage gives begins with the parent's memory
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@dataclass
class Side:
    """One of the two: a model, how it is called, and its times."""

    model: nn.Module
    loss: Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
    batches: list[dict[str, torch.Tensor]]
    seconds: list[float]
    optimiser: torch.optim.Optimizer | None = None


def compare(
    row: str,
    options: argparse.Namespace,
    batches: list[dict[str, torch.Tensor]],
    tokens: int,
    *,
    dropout: float,
    pads_to_most: bool,
) -> None:
    ours = TransformerEncoder(
        VOCAB, options.width, options.layers, HEADS, dropout=dropout, max_seq_len=MOST, use_expression_values=False
    )
    theirs = Usual(options.width, options.layers, dropout)
    wide = [padded(batch, MOST) if pads_to_most else batch for batch in batches]
    sides = [
        Side(ours, lambda model, batch: model(**batch, return_logits=False).loss, batches, []),
        Side(theirs, lambda model, batch: model(**batch), wide, []),
    ]
    for side in sides:
        side.model = side.model.to(options.device).train()
    for repeat in range(-1, options.repeats):
        for side in sides:
            seconds = run(side, options)
            if repeat >= 0:
                side.seconds.append(seconds)
    ratios = np.array(sides[1].seconds) / np.array(sides[0].seconds)
    for name, side in (("transformer_encoder", sides[0]), ("nn.TransformerEncoder", sides[1])):
        micro = 1e6 * np.array(side.seconds) / tokens
        used, unit = "", "CPU us" if options.device == "cpu" else "us"
        if options.peak:
            share = flops(batches, options) / np.median(side.seconds) / (1e12 * options.peak)
            used = f", {share:.1%} of the peak"
        spread = f"{np.median(micro):8.2f} ({micro.min():.2f}, {micro.max():.2f})"
        print(f"{row:7} {name:22} {spread} {unit} a real token{used}")
    print(f"{row:7} ratio {np.median(ratios):.2f} ({ratios.min():.2f}, {ratios.max():.2f}), aim {GOALS[row]:g}")


def compare_compiled(options: argparse.Namespace, batches: list[dict[str, torch.Tensor]], tokens: int) -> None:
    """Print the times of steps without and with ``training.compile``, in turns."""
    sides = []
    for _ in range(2):
        model = TransformerEncoder(
            VOCAB, options.width, options.layers, HEADS, max_seq_len=MOST, use_expression_values=False
        )
        model = model.to(options.device).train()
        sides.append(Side(model, lambda model, batch: model(**batch, return_logits=False).loss, batches, []))
    compile_blocks(sides[1].model)
    for repeat in range(-1, options.repeats):
        for side in sides:
            seconds = run(side, options)
            if repeat >= 0:
                side.seconds.append(seconds)
    ratios = np.array(sides[0].seconds) / np.array(sides[1].seconds)
    unit = "CPU us" if options.device == "cpu" else "us"
    for name, side in (("as it is", sides[0]), ("compiled", sides[1])):
        micro = 1e6 * np.array(side.seconds) / tokens
        print(f"{name:9} {np.median(micro):8.2f} ({micro.min():.2f}, {micro.max():.2f}) {unit} a real token")
    print(
        f"ratio     {np.median(ratios):8.2f} ({ratios.min():.2f}, {ratios.max():.2f}); "
        f"{compile_seconds():.0f} s to compile"
    )


def padded(batch: dict[str, torch.Tensor], width: int) -> dict[str, torch.Tensor]:
    more = width - batch["input_ids"].shape[1]
    return {name: F.pad(tensor, (0, more), value=-100 if name == "labels" else 0) for name, tensor in batch.items()}


def autocast(options: argparse.Namespace) -> torch.autocast:
    return torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.dtype == "bf16")


def run(side: Side, options: argparse.Namespace) -> float:
    """Return the seconds of a step with each batch: of the processor, or of the clock on a GPU."""
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    if side.optimiser is None:
        side.optimiser = torch.optim.AdamW(side.model.parameters(), lr=1e-4, fused=True)
    synchronise(options.device)
    began = clock()
    for batch in side.batches:
        with autocast(options):
            loss = side.loss(side.model, batch)
        loss.backward()
        side.optimiser.step()
        side.optimiser.zero_grad(set_to_none=True)
    synchronise(options.device)
    return clock() - began


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def flops(batches: list[dict[str, torch.Tensor]], options: argparse.Namespace) -> float:
    """Return the FLOPs of a step with each batch, on real tokens and hidden genes."""
    width, total = options.width, 0.0
    for batch in batches:
        lengths = batch["attention_mask"].sum(dim=1).double()
        layers = options.layers * (6 * 12 * width**2 * lengths.sum() + 12 * width * (lengths**2).sum())
        total += float(layers) + 6.0 * width * VOCAB * int((batch["labels"] != -100).sum())
    return total


if __name__ == "__main__":
    main()
