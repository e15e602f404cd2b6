"""Loaders of others, measured as ours is: a shuffled pass in batches, with the settings they recommend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["PEERS"]


def annbatch(path: Path, batch_size: int) -> Iterator[int]:
    """Slices of 512 rows, 32 of them at a time: its defaults."""
    import numpy as np
    from annbatch import DatasetCollection, Loader

    loader = Loader(shuffle=True, batch_size=batch_size, rng=np.random.default_rng(0), to=None)
    loader.use_collection(DatasetCollection(path))
    return (batch["X"].shape[0] for batch in loader)


def annbatch_zarrs(path: Path, batch_size: int) -> Iterator[int]:
    """The same with the codecs of ``zarrs``, as its documentation recommends for local files."""
    import zarr

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return annbatch(path, batch_size)


def scdataset(path: Path, batch_size: int) -> Iterator[int]:
    """Blocks of 16 rows, 64 batches fetched at a time, as its paper has them, over a backed AnnData."""
    import anndata as ad
    from scdataset import BlockShuffling, scDataset

    cells = ad.read_h5ad(path, backed="r")
    dataset = scDataset(
        cells,
        BlockShuffling(block_size=16),
        batch_size=batch_size,
        fetch_factor=64,
        fetch_callback=lambda data, rows: data[rows].to_memory(),
        batch_callback=lambda data, rows: data[rows].X,
    )
    return (batch.shape[0] for batch in dataset)


def scvi_backed(path: Path, batch_size: int) -> Iterator[int]:
    """``AnnDataLoader`` over a backed AnnData: rows at random, made dense."""
    import anndata as ad
    import scvi

    cells = ad.read_h5ad(path, backed="r")
    scvi.model.SCVI.setup_anndata(cells)
    manager = scvi.model.SCVI(cells).adata_manager
    loader = scvi.dataloaders.AnnDataLoader(manager, batch_size=batch_size, shuffle=True)
    return (len(batch["X"]) for batch in loader)


#: Name, the module that must be there, packing of the file, most cells of a pass (slow ones are given a part).
PEERS = {
    "annbatch": (annbatch, "annbatch", "zarr", None),
    "annbatch, zarrs": (annbatch_zarrs, "zarrs", "zarr", None),
    "scDataset": (scdataset, "scdataset", "gzip", 20_000),
    "scvi backed": (scvi_backed, "scvi", "gzip", 5_000),
}
