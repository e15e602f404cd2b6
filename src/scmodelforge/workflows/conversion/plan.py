"""How a conversion is cut into pieces that fit in memory, and what it needs of the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._shard_writer import pack
from scmodelforge.data.draws import generator
from scmodelforge.workflows.conversion.inputs import Inputs

__all__ = ["LEAST_MEMORY", "Plan", "Sample", "check_disk", "make_plan", "take_sample"]

#: What Python and its packages take, and the least that is left for cells.
_BASE_MEMORY = 320 << 20
LEAST_MEMORY = 384 << 20
#: What a bucket takes of memory, in its own size: as it is, compressed, room for a larger one.
_COPIES = 2
_MOST_AT_ONCE = 32 << 20
_SAMPLED_CELLS = 256
#: The estimate of the disk space is of a sample.
_MARGIN = 1.3


@dataclass(frozen=True)
class Sample:
    """What some cells of each file say of all.

    Attributes
    ----------
    bytes_per_cell
        Values and columns of an average cell in memory.
    bytes_on_disk
        All cells, compressed.
    """

    bytes_per_cell: float
    bytes_on_disk: int


@dataclass(frozen=True)
class Plan:
    """The pieces of the output.

    Attributes
    ----------
    datasets
        First cell of each data set of the output, and the end, shape (datasets + 1,), int64.
    buckets
        First cell of each bucket, and the end; no bucket is in two data sets.
    cells_at_once
        Cells that are read at a time.
    order
        Input cell of each output cell, shape (cells,), or ``None`` if they are the same.
    """

    datasets: np.ndarray
    buckets: np.ndarray
    cells_at_once: int
    order: np.ndarray | None

    def cells(self, dataset: int) -> np.ndarray:
        """Return the input cells of a data set, in its order."""
        start, stop = self.datasets[dataset : dataset + 2].tolist()
        return np.arange(start, stop) if self.order is None else self.order[start:stop]

    def places(self) -> np.ndarray:
        """Return the output cell of each input cell."""
        assert self.order is not None
        found = np.empty_like(self.order)
        found[self.order] = np.arange(len(self.order), dtype=self.order.dtype)
        return found


def make_plan(num_cells: int, sample: Sample, *, memory: int, dataset_cells: int, shuffle: bool, seed: int) -> Plan:
    """Cut the output into pieces.

    Parameters
    ----------
    num_cells
        Number of cells.
    sample
        How large they are.
    memory
        Bytes the conversion may take.
    dataset_cells
        Most cells of a data set.
    shuffle, seed
        Whether the cells are permuted, and what the permutation depends on.
    """
    in_bucket = max(1, int((memory - _BASE_MEMORY) / _COPIES / sample.bytes_per_cell))
    datasets = _cut(0, num_cells, dataset_cells)
    inside = [_cut(int(a), int(b), in_bucket)[1:] for a, b in pairwise(datasets)]
    kind = np.int32 if num_cells < 1 << 31 else np.int64
    return Plan(
        datasets=datasets,
        buckets=np.concatenate([[0], *inside]),
        cells_at_once=max(1, min(in_bucket, int(_MOST_AT_ONCE / sample.bytes_per_cell))),
        order=generator(seed, "convert").permutation(num_cells).astype(kind) if shuffle else None,
    )


def take_sample(inputs: Inputs) -> Sample:
    """Read some cells of each file; a value that the output's type does not hold is found here if it is frequent."""
    raw, packed = 0.0, 0.0
    for start, stop in zip(inputs.starts[:-1].tolist(), inputs.starts[1:].tolist(), strict=True):
        middle = (start + stop) // 2
        data, indices, lengths = inputs.read(middle, min(stop, middle + _SAMPLED_CELLS))
        share = (stop - start) / len(lengths)
        raw += (data.nbytes + indices.nbytes) * share
        packed += (len(pack(data)) + len(pack(indices))) * share
    return Sample(max(1.0, raw / len(inputs)), int(packed))


def check_disk(folder: Path, needed: int) -> None:
    """Make sure that a disk has space.

    Raises
    ------
    DataError
        If it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = (
            f"{folder} has {free / 1e9:,.1f} GB free, and converting needs about {needed / 1e9:,.1f} GB, buckets of "
            "the shuffle included; make room, or write to another disk."
        )
        raise DataError(msg)


def needed_on_disk(sample: Sample, *, num_cells: int) -> int:
    """Return bytes of the output and of the buckets, which are removed as the output grows."""
    per_cell = 64  # row length, name and columns of obs
    return int(_MARGIN * sample.bytes_on_disk) + per_cell * num_cells + (64 << 20)


def _cut(start: int, stop: int, most: int) -> np.ndarray:
    """Return the bounds of the fewest equal pieces of at most so many."""
    return np.linspace(start, stop, -(-(stop - start) // most) + 1).astype(np.int64)
