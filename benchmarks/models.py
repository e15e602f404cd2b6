"""What the models save: work of the autoencoder as masking grows, and time of generation with a cache.

    python benchmarks/models.py

The first table counts the floating-point operations of forward and backward (torch's counter; matrix products and
attention) and measures CPU seconds, of an encoder of 12 layers and a decoder of 4 on 1,024 genes. The second times the
same cells generated with and without keys and values kept, and checks that they are the same.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from scmodelforge.models import AutoregressiveTransformer, MaskedAutoencoder

VOCAB_SIZE = 20_000


def autoencoder(length: int, cells: int, width: int) -> None:
    model = MaskedAutoencoder(VOCAB_SIZE, encoder_dim=width, dropout=0.0)
    draw = torch.Generator().manual_seed(0)
    ids = 4 + torch.stack([torch.randperm(VOCAB_SIZE - 4, generator=draw)[:length] for _ in range(cells)])
    values, order = torch.rand(ids.shape, generator=draw), torch.rand(ids.shape, generator=draw).argsort(dim=1)

    def step(ratio: float) -> None:
        masked = order < round(ratio * length)
        labels = torch.where(masked, ids, -100)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "values": values, "gene_ids": ids}
        model.zero_grad()
        output = model(**inputs, labels=labels, masked_positions=masked, targets=values, return_logits=False)
        output.loss.backward()

    print(f"masked autoencoder, width {width}, encoder 12 layers, decoder 4, {length:,} genes, {cells} cells, float32")
    print(f"{'masked':>8}{'TFLOP':>10}{'of 0 %':>9}{'CPU s':>9}{'of 0 %':>9}")
    base: tuple[float, float] | None = None
    for ratio in (0.0, 0.15, 0.5, 0.75, 0.9):
        with FlopCounterMode(display=False) as counter:
            step(ratio)
        began = time.process_time()
        step(ratio)
        seconds, work = time.process_time() - began, counter.get_total_flops() / 1e12
        base = base or (work, seconds)
        print(f"{ratio:>8.0%}{work:>10.3f}{work / base[0]:>9.0%}{seconds:>9.1f}{seconds / base[1]:>9.0%}")


def generation(genes: int, layers: int, cells: int, width: int) -> None:
    torch.manual_seed(0)
    model = AutoregressiveTransformer(
        VOCAB_SIZE, hidden_dim=width, num_layers=layers, max_seq_len=genes + 1, pooling="mean"
    )

    def run(*, use_cache: bool) -> tuple[float, torch.Tensor]:
        began = time.process_time()
        made = model.generate(
            num_cells=cells, max_new_genes=genes, use_cache=use_cache, generator=torch.Generator().manual_seed(1)
        )
        return time.process_time() - began, made.input_ids

    print(f"\ngeneration, width {width}, {layers} layers, {genes} genes, {cells} cells at once, float32")
    with_cache, first = run(use_cache=True)
    without, second = run(use_cache=False)
    same = (first == second).float().mean()
    print(f"with cache {with_cache:.1f} CPU s, without {without:.1f} CPU s: {without / with_cache:.1f} times; ", end="")
    print(f"{same:.1%} of the genes the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=1024, help="genes a cell of the autoencoder")
    parser.add_argument("--genes", type=int, default=512, help="genes to generate")
    parser.add_argument("--layers", type=int, default=6, help="layers of the generating model")
    parser.add_argument("--cells", type=int, default=4, help="cells at once, of both")
    parser.add_argument("--width", type=int, default=256, help="width of both")
    options = parser.parse_args()
    autoencoder(options.length, options.cells, options.width)
    generation(options.genes, options.layers, options.cells, options.width)


if __name__ == "__main__":
    main()
