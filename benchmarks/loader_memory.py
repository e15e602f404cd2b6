"""Peak memory and speed of one shuffled pass over an .h5ad file, for files of several sizes.

Peak memory may not grow with the number of cells once the buffer is full: two windows of each stream are held, twice
``buffer_size`` cells together, so smaller files hold fewer. Each size is made and read in fresh processes, with the
default settings of the data section and an encoder that only copies, so that the loader's own cost shows.

    python benchmarks/loader_memory.py --cells 20000 100000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_GENES = 5_000
EXPRESSED = 0.06  # mean share of the genes that a cell expresses: 300 values
BATCH_SIZE = 256
ROWS_PER_WRITE = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000], help="cells of each file")
    parser.add_argument("--workers", type=int, default=1, help="threads of the loader")
    parser.add_argument("--buffer-size", type=int, default=16_384, help="data.buffer_size")
    parser.add_argument("--step", choices=["make", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "make":
        make(options.path, options.cells[0])
    elif options.step == "read":
        print(json.dumps(read(options.path, options.workers, options.buffer_size)))
    else:
        compare(options.cells, options.workers, options.buffer_size)


def compare(sizes: list[int], workers: int, buffer_size: int) -> None:
    print(
        f"one shuffled pass, {NUM_GENES:,} genes, batches of {BATCH_SIZE}, {workers} threads, "
        f"buffer of {buffer_size:,} cells, gzip .h5ad, warm cache"
    )
    print(
        f"{'cells':>9} {'file MiB':>9} {'RSS before MiB':>15} {'peak RSS MiB':>13} {'cells/s':>9} {'cells/CPU s':>12}"
    )
    peaks = []
    for cells in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.h5ad"
            run("make", path, "--cells", cells)
            found = json.loads(run("read", path, "--workers", workers, "--buffer-size", buffer_size))
            megabytes = path.stat().st_size / 2**20
        peaks.append(found["peak"])
        print(
            f"{found['cells']:>9,} {megabytes:>9.1f} {found['before'] / 2**20:>15.0f} {found['peak'] / 2**20:>13.0f} "
            f"{found['cells'] / found['seconds']:>9,.0f} {found['cells'] / found['cpu_seconds']:>12,.0f}"
        )
    if len(sizes) > 1 and sizes[-1] != sizes[0]:
        growth = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
        print(f"growth of the peak: {growth:,.1f} bytes a cell")


def run(step: str, path: Path, *settings: str | int) -> str:
    """Run a step in a fresh process and return what it printed."""
    command = [sys.executable, __file__, "--step", step, "--path", path, *settings]
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def make(path: Path, num_cells: int) -> None:
    """Write an .h5ad file of random counts, stored group after group, in blocks of rows."""
    import h5py

    rng = np.random.default_rng(0)
    shares = np.clip(rng.gamma(0.5, 2 * EXPRESSED, (20, NUM_GENES)), 0, 0.95)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        matrix.attrs["shape"] = (num_cells, NUM_GENES)
        options = {
            "shape": (0,),
            "maxshape": (None,),
            "chunks": (32_768,),
            "compression": "gzip",
            "compression_opts": 4,
        }
        data = matrix.create_dataset("data", dtype="float32", **options)
        indices = matrix.create_dataset("indices", dtype="int32", **options)
        lengths = []
        for start in range(0, num_cells, ROWS_PER_WRITE):
            rows = np.arange(start, min(start + ROWS_PER_WRITE, num_cells))
            cells, genes = np.nonzero(rng.random((len(rows), NUM_GENES), np.float32) < shares[rows * 20 // num_cells])
            lengths.append(np.bincount(cells, minlength=len(rows)))
            for target, values in ((data, rng.geometric(0.5, len(genes))), (indices, genes)):
                target.resize((len(target) + len(values),))
                target[len(target) - len(values) :] = values
        matrix["indptr"] = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        write_names(file, "obs", [f"cell{i}" for i in range(num_cells)])
        write_names(file, "var", [f"ENSG{i:011d}" for i in range(NUM_GENES)])


def write_names(file, group: str, names: list[str]) -> None:
    frame = file.create_group(group)
    frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
    frame.attrs["column-order"] = np.array([], dtype="S1")
    frame["_index"] = names
    frame["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def read(path: Path, workers: int, buffer_size: int) -> dict[str, float]:
    """Iterate one shuffled pass and return peak memory in bytes and times in seconds."""
    from scmodelforge.data.loader import CellLoader
    from scmodelforge.data.sampling import GlobalOrder
    from scmodelforge.data.sources.local import LocalDataConfig, LocalSource

    config = LocalDataConfig(paths=[str(path)], buffer_size=buffer_size)
    before = peak_memory()
    source = LocalSource(config)
    order = GlobalOrder(
        source.file_sizes,
        np.arange(sum(source.file_sizes)),
        seed=0,
        block_size=config.block_size,
        buffer_size=config.buffer_size,
        num_streams=config.num_streams,
        shuffle=True,
    )
    loader = CellLoader(
        source, Copier(), lambda cells: cells, order, batch_size=BATCH_SIZE, seed=0, collate=len, num_workers=workers
    )
    began, began_cpu = time.perf_counter(), time.process_time()
    cells = sum(sum(batch) for batch in loader.one_pass())
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return {"cells": cells, "before": before, "peak": peak_memory(), "seconds": seconds, "cpu_seconds": cpu_seconds}


class Copier:
    """An encoder whose tokens are the genes as they come."""

    def bind(self, panel) -> Copier:
        return self

    def encode(self, block, keys):
        from scmodelforge.data.types import TokenBlock

        return TokenBlock(block.indptr, block.indices.astype(np.int32), block.data, block.positions, keys)


def peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
