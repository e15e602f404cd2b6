"""Speed of the loader: shuffled cells of a large file, as sparse rows and as rank tokens, beside sequential h5py.

The file is made first (kept with --keep): synthetic counts of 20,000 genes, 30 cell types, stored batch after batch,
about 1,456 expressed genes a cell, CSR .h5ad as anndata writes it, or a zarr collection as annbatch has them: chunks of
64 cells in shards, Blosc lz4 with the bytes shuffled, columns as uint16. Each measurement is one pass in a fresh
process, interleaved, warm page cache; medians of --repeats. Batches of 256 cells, 2 threads.

    python benchmarks/loader.py --cells 100000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

NUM_GENES, NUM_TYPES, NUM_BATCHES, EXPRESSED = 20_000, 30, 20, 1_456
BATCH_SIZE = 256
ROWS_PER_WRITE = 2_000
PACKINGS = ("gzip", "none", "zarr")
CELLS_OF_A_CHUNK, CHUNKS_OF_A_SHARD = 64, 1024
WAYS = ("h5py in order", "rows", "rank tokens", "rank batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--packing", choices=PACKINGS, nargs="+", default=list(PACKINGS))
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder in which files are made once and kept")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.path, options.threads)))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(options.keep or Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for packing in options.packing:
        paths[packing] = folder / f"cells_{options.cells}_{packing}.{'zarr' if packing == 'zarr' else 'h5ad'}"
        if not paths[packing].exists():
            make(paths[packing], options.cells, packing)
        for path in files_of(paths[packing]):
            with path.open("rb") as file:  # into the page cache
                while file.read(1 << 24):
                    pass
    jobs = [job for job in product(options.packing, options.ways) if job != ("zarr", "h5py in order")]
    found: dict[tuple[str, str], list[dict]] = {job: [] for job in jobs}
    for _ in range(options.repeats):
        for packing, way in jobs:
            command = [sys.executable, __file__, "--measure", way, "--path", paths[packing]]
            done = subprocess.run(
                [str(word) for word in [*command, "--threads", options.threads]], check=True, stdout=subprocess.PIPE
            )
            found[packing, way].append(json.loads(done.stdout))
    print(f"{options.cells:,} cells, {NUM_GENES:,} genes, batches of {BATCH_SIZE}, {options.threads} threads")
    head = ("cells/s", "cells/CPU s", "first batch s", "RSS MiB more")
    print(f"{'packing':8}{'what':16}{'MiB':>7}" + "".join(f"{word:>15}" for word in head))
    for (packing, way), rows in found.items():
        middle = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
        size = sum(path.stat().st_size for path in files_of(paths[packing])) / 2**20
        print(
            f"{packing:8}{way:16}{size:>7.0f}{middle['cells'] / middle['seconds']:>15,.0f}"
            f"{middle['cells'] / middle['cpu_seconds']:>15,.0f}{middle['first']:>15.2f}{middle['rss']:>15,.0f}"
        )


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def make(path: Path, num_cells: int, packing: str) -> None:
    """Write a file of random counts, stored batch after batch, in parts."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    obs = pd.DataFrame(index=[f"cell{n}" for n in range(num_cells)])
    obs["batch"] = pd.Categorical([f"batch{n * NUM_BATCHES // num_cells}" for n in range(num_cells)])
    var = pd.DataFrame(index=[f"ENSG{n:011d}" for n in range(NUM_GENES)])
    adata = ad.AnnData(sp.csr_matrix((num_cells, NUM_GENES), dtype=np.float32), obs, var)
    if packing == "zarr":
        _write_collection(path, adata)
    else:
        _write_h5ad(path, adata, packing)


def _counts(num_cells: int):
    """Yield counts, genes and number of genes of each cell, some cells at a time."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.25, 1.0, (1, NUM_GENES)) * rng.lognormal(0, 0.7, (NUM_TYPES, NUM_GENES))
    chances = 1 - np.exp(-rates * _depth(rates))
    for start in range(0, num_cells, ROWS_PER_WRITE):
        rows = min(ROWS_PER_WRITE, num_cells - start)
        types = rng.integers(0, NUM_TYPES, rows)
        is_on = rng.random((rows, NUM_GENES), dtype=np.float32) < chances[types]
        cells, genes = np.nonzero(is_on)
        counts = rng.geometric(np.clip(1 - chances[types[cells], genes], 0.02, 1)).astype(np.float32)
        yield counts, genes.astype(np.int32), np.bincount(cells, minlength=rows)


def _write_h5ad(path: Path, adata, packing: str) -> None:
    import h5py

    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        group = file["X"]
        del group["data"], group["indices"]
        compression = {"compression": "gzip", "compression_opts": 4} if packing == "gzip" else {}
        chunk = {"chunks": (32_768,), "maxshape": (None,), "shape": (0,)}
        data = group.create_dataset("data", dtype="f4", **chunk, **compression)
        columns = group.create_dataset("indices", dtype="i4", **chunk, **compression)
        lengths = [np.zeros(1, dtype=np.int64)]
        for counts, genes, length in _counts(adata.n_obs):
            for item, values in ((data, counts), (columns, genes)):
                item.resize(len(item) + len(values), axis=0)
                item[-len(values) :] = values
            lengths.append(length)
        group["indptr"][:] = np.cumsum(np.concatenate(lengths))


def _write_collection(path: Path, adata) -> None:
    import warnings

    import anndata as ad
    import zarr
    from zarr.codecs import BloscCodec

    warnings.simplefilter("ignore")  # of zarr and anndata, on settings to come
    zarr.create_group(path, attributes={"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"})
    with ad.settings.override(zarr_write_format=3):
        adata.write_zarr(path / "dataset_0")
    group = zarr.open_group(path / "dataset_0" / "X", mode="r+")
    shard = CHUNKS_OF_A_SHARD * CELLS_OF_A_CHUNK * EXPRESSED
    blosc = BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")
    settings = {"chunks": (shard // CHUNKS_OF_A_SHARD,), "shards": (shard,), "compressors": blosc, "overwrite": True}
    arrays = [
        group.create_array(name, shape=(0,), dtype=dtype, **settings)
        for name, dtype in (("data", "f4"), ("indices", "u2"))
    ]
    waiting: list[list[np.ndarray]] = [[], []]
    lengths = [np.zeros(1, dtype=np.int64)]

    def write(*, least: int) -> None:  # whole shards; the rest once ``least`` is 1
        for array, parts in zip(arrays, waiting, strict=True):
            values = np.concatenate(parts)
            begin, number = array.shape[0], len(values) // least * least
            array.resize((begin + number,))
            array[begin:] = values[:number]
            parts[:] = [values[number:]]

    for counts, genes, length in _counts(adata.n_obs):
        waiting[0].append(counts)
        waiting[1].append(genes)
        lengths.append(length)
        if sum(map(len, waiting[0])) >= shard:
            write(least=shard)
    write(least=1)
    starts = np.cumsum(np.concatenate(lengths))
    group.create_array("indptr", data=starts, chunks=starts.shape, overwrite=True)
    zarr.consolidate_metadata(path / "dataset_0")


def _depth(rates: np.ndarray) -> float:
    """Return what the rates are multiplied by, so that cells express as many genes as asked for on average."""
    low, high = 1e-3, 1e3
    for _ in range(50):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if (1 - np.exp(-rates * middle)).sum(1).mean() < EXPRESSED else (low, middle)
    return low


def measure(way: str, path: Path, threads: int) -> dict[str, float]:
    """Time one pass from the start of iterating; the source is open before, kernels are loaded in it."""
    ways = {"h5py in order": in_order, "rows": rows, "rank tokens": rank_tokens, "rank batches": rank_batches}
    numbers = ways[way](path, threads)
    before = memory("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    cells, first = 0, 0.0
    for number in numbers:
        first = first or time.perf_counter() - began
        cells += number
    used = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return {"cells": cells, "first": first, "rss": memory("VmHWM") - before, **used}


def memory(which: str) -> float:
    """Return the memory of this process in MiB: VmRSS now, VmHWM at most since it began."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def in_order(path: Path, threads: int):
    import h5py

    return _in_order(h5py.File(path))


def _in_order(opened):
    with opened as file:
        indptr = file["X/indptr"][:]
        data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
        for start in range(0, len(indptr) - 1, 8192):
            stop = min(start + 8192, len(indptr) - 1)
            span = slice(int(indptr[start]), int(indptr[stop]))
            if len(data) < span.stop - span.start:
                data, indices = (np.empty(span.stop - span.start, d.dtype) for d in (data, indices))
            for name, out in (("data", data), ("indices", indices)):
                file[f"X/{name}"].read_direct(out, span, slice(0, span.stop - span.start))
            yield stop - start


def _loader(path: Path, threads: int, encoder, collate):
    from scmodelforge.config.schema import DataConfig
    from scmodelforge.data.loader import CellLoader
    from scmodelforge.data.sampling import GlobalOrder
    from scmodelforge.data.sources.local import LocalDataConfig, LocalSource

    source = LocalSource(LocalDataConfig(source="local", paths=[str(path)]))
    settings = DataConfig(source="local")
    order = GlobalOrder(
        source.file_sizes,
        np.arange(sum(source.file_sizes)),
        seed=0,
        block_size=settings.block_size,
        buffer_size=settings.buffer_size,
        num_streams=settings.num_streams,
        shuffle=True,
    )
    return CellLoader(
        source,
        encoder(source),
        lambda block: block,
        order,
        batch_size=BATCH_SIZE,
        seed=0,
        collate=collate,
        num_workers=threads,
    )


class _Rows:
    """Hands on the sparse rows: columns as ids."""

    def bind(self, panel):
        return self

    def encode(self, block, keys):
        from scmodelforge.data.types import TokenBlock

        return TokenBlock(block.indptr, block.indices, block.data, block.positions, keys)


def _rank(source):
    from scmodelforge.data.vocab import GeneVocab
    from scmodelforge.tokenizers import get_tokenizer
    from scmodelforge.tokenizers.rank_value import RankValueConfig

    vocab = GeneVocab.from_panels(source.panels)
    return get_tokenizer("rank_value", RankValueConfig(max_genes=2048, medians="none"), vocab)


def _count(tokens) -> int:
    return len(tokens)


def _pass(loader):
    with loader:
        for group in loader.one_pass():
            yield sum(group)


def rows(path: Path, threads: int):
    return _pass(_loader(path, threads, lambda source: _Rows(), _count))


def rank_tokens(path: Path, threads: int):
    return _pass(_loader(path, threads, _rank, _count))


def rank_batches(path: Path, threads: int):
    """Padded tensors, as a model gets them."""
    from scmodelforge.objectives.collate import pad

    return _pass(_loader(path, threads, _rank, lambda tokens: len(pad(tokens, pad_id=0)["input_ids"])))


if __name__ == "__main__":
    main()
