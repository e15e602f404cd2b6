"""CPU time of an optimiser step: AdamW as one fused kernel, as torch's loop, and in groups of tensors.

    python benchmarks/optimizer.py

16.8 million parameters in float32 on one thread. All three are run in turn, a line as each round ends, and the least of
four rounds is shown. On a busy machine CPU time counts no waiting, but shared caches still slow a step down.
"""

from __future__ import annotations

import time

import torch
from torch import nn

KINDS = {
    "loop (torch's default on the CPU)": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
ROUNDS, STEPS = 4, 5


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, cpu, 1 thread, float32; {ROUNDS} rounds of {STEPS} steps", flush=True)
    runs = {name: make(**options) for name, options in KINDS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(1, ROUNDS + 1):
        for name, (_, optimizer) in runs.items():
            began = time.process_time()
            for _ in range(STEPS):
                optimizer.step()
            seconds[name].append((time.process_time() - began) / STEPS)
        latest = ", ".join(f"{name.partition(' ')[0]} {1000 * found[-1]:.1f}" for name, found in seconds.items())
        print(f"round {turn}/{ROUNDS}: {latest} ms", flush=True)
    for name, found in seconds.items():
        print(f"{name:34}{1000 * min(found):8.1f} ms of CPU time a step")
    one, other = (list(runs[name][0].parameters()) for name in (next(iter(KINDS)), "fused"))
    apart = max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))
    print(f"largest difference of a weight after {ROUNDS * STEPS} steps, fused and loop: {apart:.1e}")


def make(**options: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model with gradients, the same each time, and its optimiser."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(512, 2048), nn.Linear(2048, 512), nn.LayerNorm(512)) for _ in range(8)]
    model = nn.Sequential(*blocks)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-2
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, **options)


if __name__ == "__main__":
    main()
