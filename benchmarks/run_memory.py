"""Peak memory of whole training runs over files of several sizes: it may not grow with the number of cells.

Each run is a fresh process: scan, fit of the tokenizer, one epoch over all cells, validation, checkpoint, export.

    python benchmarks/run_memory.py --cells 20000 100000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from loader_memory import make

SETTINGS = {
    "tokenizer": {"max_genes": 64},
    "model": {"architecture": "gene_pooling", "hidden_dim": 16, "num_layers": 1, "max_seq_len": 64},
    "training": {"batch_size": 256, "max_epochs": 1, "accelerator": "cpu", "log_every_n_steps": 100},
    "output": {"tensorboard": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000], help="cells of each file")
    options = parser.parse_args()
    print("scmodelforge train, one epoch, gene_pooling of width 16, 5,000 genes, default data settings, one process")
    print(f"{'cells':>9} {'peak RSS MiB':>13} {'seconds':>8} {'CPU s':>8}")
    peaks = []
    for cells in options.cells:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder / "cells.h5ad", cells)
            data = {"paths": [str(folder / "cells.h5ad")], "gene_vocab": "from_data", "split": {"by": "cells"}}
            config = {**SETTINGS, "data": data, "output": {**SETTINGS["output"], "run_dir": str(folder / "run")}}
            (folder / "run.yaml").write_text(yaml.safe_dump(config))
            peak, seconds, cpu = measure(folder / "run.yaml")
        peaks.append(peak)
        print(f"{cells:>9,} {peak / 2**20:>13.0f} {seconds:>8.1f} {cpu:>8.1f}", flush=True)
    if len(peaks) > 1:
        growth = (peaks[-1] - peaks[0]) / (options.cells[-1] - options.cells[0])
        print(f"growth of the peak: {growth:,.1f} bytes a cell")


def measure(config: Path) -> tuple[int, float, float]:
    """Run a training and return its peak RSS in bytes, its seconds and its CPU seconds."""
    command = [sys.executable, "-m", "scmodelforge", "train", "--config", str(config)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    talk = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(talk)
    return usage.ru_maxrss * 1024, time.perf_counter() - began, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
