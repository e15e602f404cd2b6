"""Writing small AnnData zarr stores, with any packing."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from scmodelforge._errors import DataError
from scmodelforge.data.sources.local import LocalSource
from scmodelforge.data.types import CellBlock, RowRange

from .h5ad_files import open_files

BLOSC = BloscCodec(cname="lz4", clevel=3, shuffle="shuffle", typesize=4)
_folders: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


def write_store(folder: Path, adata: ad.AnnData, name: str = "cells.zarr", *, version: int = 3, **packing) -> Path:
    """Write a store as anndata does; with ``packing``, the values and columns of X anew by ``pack``."""
    path = folder / name
    shutil.copytree(_written(pickle.dumps(adata), version), path)
    if packing:
        for array in ("data", "indices"):
            pack(path, f"X/{array}", **packing)
    return path


def copy_in_other_form(path: Path, folder: Path) -> Path:
    """Write the cells of a file as a store, they and the genes in another order, every count three times as high."""
    adata = ad.read_h5ad(path)[::-1, ::-1].copy()
    adata.X = adata.X * 3
    return write_store(folder, adata, "copy.zarr")


@cache
def _written(pickled: bytes, version: int) -> Path:
    """Return a store of some cells that is written once and only copied: anndata takes long for each small array."""
    folder = tempfile.TemporaryDirectory()
    _folders.append(folder)
    path = Path(folder.name) / "cells.zarr"
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")  # anndata's and zarr's, on settings to come
        pickle.loads(pickled).write_zarr(path)
    return path


def pack(path: Path, where: str, *, dtype: str | None = None, chunk: int = 100, shard: int = 0, **packing) -> None:
    """Write an array of a store anew, in chunks of some values, and shards of some values or none."""
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    values = root[where][:]
    values = values if dtype is None else values.astype(dtype)
    del root[where]
    settings = {"shards": (shard,)} if shard else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = root.create_array(
            where, shape=values.shape, dtype=values.dtype, chunks=(chunk, *values.shape[1:]), **settings, **packing
        )
    array[:] = values
    forget_consolidated(path)


def put(path: Path, where: str, values: np.ndarray) -> None:
    """Replace an array of a store."""
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    attributes = dict(root[where].attrs)
    del root[where]
    root.create_array(where, data=values).attrs.update(attributes)
    forget_consolidated(path)


def forget_consolidated(path: Path) -> None:
    """Take out the copy of all metadata that anndata keeps at the root."""
    (path / ".zmetadata").unlink(missing_ok=True)
    if (path / "zarr.json").is_file():
        metadata = json.loads((path / "zarr.json").read_bytes())
        metadata.pop("consolidated_metadata", None)
        (path / "zarr.json").write_text(json.dumps(metadata))


def write_collection(folder: Path, parts: dict[int, ad.AnnData], name: str = "all.zarr", **packing) -> Path:
    """Write a collection as annbatch 0.3 does: a group with an attribute, and numbered AnnData in it."""
    path = folder / name
    zarr.create_group(path, attributes={"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"})
    for number, part in parts.items():
        write_store(path, part, f"dataset_{number}", **packing)
    return path


def read_all(source: LocalSource) -> CellBlock:
    return source.read(RowRange(0, 0, source.file_sizes[0]))


def refused(path: Path, **settings) -> str:
    """Return the one line that says why a store is refused, at the latest when its cells are read."""
    with pytest.raises(DataError) as caught:
        read_all(open_files(path, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)
