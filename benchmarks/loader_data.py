"""Synthetic counts for the loader's benchmark: 20,000 genes, 30 cell types, stored batch after batch.

About 1,456 expressed genes a cell. CSR .h5ad in chunks of 32,768 values, as anndata writes large files, or a zarr
collection as annbatch has them: chunks of 64 cells in shards, Blosc lz4 with the bytes shuffled, columns as uint16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["NUM_BATCHES", "NUM_GENES", "PACKINGS", "files_of", "gene_names", "make", "warm"]

PACKINGS = ("gzip", "none", "zarr")

NUM_GENES, NUM_TYPES, NUM_BATCHES, EXPRESSED = 20_000, 30, 20, 1_456
ROWS_PER_WRITE = 2_000
CELLS_OF_A_CHUNK, CHUNKS_OF_A_SHARD = 64, 1024


def warm(path: Path) -> None:
    """Read everything once, into the page cache."""
    for file in files_of(path):
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def gene_names() -> list[str]:
    return [f"ENSG{n:011d}" for n in range(NUM_GENES)]


def make(path: Path, num_cells: int, packing: str) -> None:
    """Write a file of random counts, stored batch after batch, in parts."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    obs = pd.DataFrame(index=[f"cell{n}" for n in range(num_cells)])
    obs["batch"] = pd.Categorical([f"batch{n * NUM_BATCHES // num_cells}" for n in range(num_cells)])
    var = pd.DataFrame(index=gene_names())
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
