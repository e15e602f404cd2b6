"""Files of many small chunks, read from here and from elsewhere."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.types import TokenBlock
from tests.conftest import make_adata
from tests.test_data.loading import make_loader

SECRET = "X-Amz-Signature=very-secret"
NUM_CELLS = 1500


def write_cells(path: Path, chunk: int = 500) -> Path:
    make_adata(NUM_CELLS, 120).write_h5ad(path, compression="gzip")
    with h5py.File(path, "r+") as file:  # many small chunks, as a large file has
        for name in ("data", "indices"):
            values = file[f"X/{name}"][:]
            del file[f"X/{name}"]
            file["X"].create_dataset(name, data=values, chunks=(chunk,), maxshape=(None,), compression="gzip")
    return path


def source(*paths, **remote) -> LocalSource:
    return LocalSource(LocalDataConfig(paths=[str(path) for path in paths], remote=RemoteConfig(**remote)))


def assert_same(found, expected) -> None:
    for name in ("data", "indices", "indptr", "positions"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


class Rows:
    """Hands on the sparse rows, with columns as ids."""

    def bind(self, panel):
        return self

    def encode(self, cells, keys):
        return TokenBlock(cells.indptr, cells.indices, cells.data, cells.positions, keys)


def batches(cells, num_workers, *, most: int | None = None) -> list:
    """Return what the first batches of a pass hold, or all."""
    layout = {"block_size": 64, "buffer_size": 800}
    loader = make_loader(
        cells, encoder=Rows(), collate=fields, num_workers=num_workers, batch_size=64, order_changes=layout
    )
    with loader:
        return [batch for group in islice(loader.one_pass(), most) for batch in group]


def fields(block):
    return [array.tobytes() for array in (block.offsets, block.ids, block.values, block.cell_index, block.keys)]
