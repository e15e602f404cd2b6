"""The steps of a conversion: tables, scatter, write, finish. Each goes on where an earlier process stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from scmodelforge.data._zarr3 import consolidate, write_group
from scmodelforge.data.writing import CsrWriter, write_rest
from scmodelforge.training._files import MANIFEST, sync_folder, write_manifest
from scmodelforge.workflows.conversion.buckets import Buckets, Rows
from scmodelforge.workflows.conversion.inputs import Inputs
from scmodelforge.workflows.conversion.partial import Partial
from scmodelforge.workflows.conversion.plan import Plan
from scmodelforge.workflows.conversion.tables import write_tables
from scmodelforge.workflows.conversion.values import Values
from scmodelforge.workflows.progress import Countdown

__all__ = ["Conversion", "finish"]

_SECONDS_BETWEEN_SAVES = 20.0


class _Stretches(Protocol):
    """Stretches of the output, each of which fits in memory."""

    def read(self, bucket: int) -> Iterator[Rows]: ...

    def remove(self, bucket: int) -> None: ...


class Conversion:
    """The way from inputs to data sets that are whole.

    Parameters
    ----------
    inputs
        The cells.
    plan
        The pieces they are cut into.
    partial
        What is done, and where.
    shard_bytes
        Bytes of a shard before compression.
    num_threads, pool
        Threads that compress shards, and those for everything else.
    """

    def __init__(
        self, inputs: Inputs, plan: Plan, partial: Partial, shard_bytes: int, *, num_threads: int, pool: Executor
    ) -> None:
        self.inputs, self.plan, self.partial = inputs, plan, partial
        self.shard_bytes, self.num_threads, self.pool = shard_bytes, num_threads, pool
        inputs.seen = Values(**partial.state["seen"])

    def run(self) -> None:
        """Do what is not done yet."""
        sizes = np.diff(self.plan.datasets)
        folders = [self.partial.store / f"dataset_{number}" for number in range(len(sizes))]
        if not self.partial.state["tables"]:
            shutil.rmtree(self.partial.store, ignore_errors=True)
            self.partial.store.mkdir()
            write_tables(self.inputs, folders, [self.plan.cells(number) for number in range(len(folders))])
            self.partial.save(tables=True)
        stretches = self._count() if self.plan.order is None else self._scatter()
        missing = [number for number in range(len(sizes)) if number not in self.partial.state["datasets"]]
        countdown = Countdown("convert: writing", total=int(sizes[missing].sum()))
        try:
            for number in missing:
                self._write(number, folders[number], stretches, countdown)
        finally:
            countdown.close()

    def _scatter(self) -> _Stretches:
        """Bring all cells into the buckets."""
        inputs, plan, partial = self.inputs, self.plan, self.partial
        buckets = Buckets(
            partial.buckets, plan.buckets, dtype=inputs.dtype, column_dtype=inputs.column_dtype, pool=self.pool
        )
        done = partial.state["scattered"]
        if done == len(inputs):
            return buckets
        buckets.cut(partial.state["sizes"] or [0] * len(buckets))
        places = plan.places()
        countdown = Countdown("convert: shuffling", total=len(inputs) - done)
        saved = perf_counter()
        try:
            for start in range(done, len(inputs), plan.cells_at_once):
                stop = min(start + plan.cells_at_once, len(inputs))
                data, indices, lengths = inputs.read(start, stop)
                partial.lengths[places[start:stop]] = lengths
                buckets.scatter(places[start:stop], data, indices, lengths)
                countdown.advance(stop - start)
                if stop == len(inputs) or perf_counter() - saved > _SECONDS_BETWEEN_SAVES:
                    partial.save(scattered=stop, sizes=buckets.sync(), seen=asdict(inputs.seen))
                    saved = perf_counter()
        finally:
            countdown.close()
        return buckets

    def _count(self) -> _Stretches:
        """Find the number of values of each cell; only dense matrices are read for it."""
        inputs, plan, partial = self.inputs, self.plan, self.partial
        lengths = None if partial.state["scattered"] else inputs.row_lengths()
        if lengths is not None:
            partial.lengths[:] = lengths
        elif not partial.state["scattered"]:
            for start in range(0, len(inputs), plan.cells_at_once):
                stop = min(start + plan.cells_at_once, len(inputs))
                partial.lengths[start:stop] = inputs.read(start, stop)[2]
        partial.save(scattered=len(inputs))
        return _InOrder(inputs, plan)

    def _write(self, number: int, folder: Path, stretches: _Stretches, countdown: Countdown) -> None:
        """Write the matrix of a data set; buckets are removed once they are in shards that are whole."""
        start, stop = self.plan.datasets[number : number + 2].tolist()
        first, last = np.searchsorted(self.plan.buckets, [start, stop]).tolist()
        lengths = self.partial.lengths[start:stop].astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)])[self.plan.buckets[first + 1 : last + 1] - start]
        matrix, num_genes = folder / "X", len(self.inputs.genes)
        layout: dict[str, Any] = {
            "dtype": self.inputs.dtype,
            "row_length": float(lengths.mean()),
            "shard_bytes": self.shard_bytes,
        }
        stored = CsrWriter.num_stored(matrix, num_genes, **layout)
        done = first + int(np.searchsorted(ends, stored, side="right"))
        before = int(self.plan.buckets[done] - start)
        countdown.advance(before)
        writer = CsrWriter(matrix, num_genes, **layout, num_threads=self.num_threads, before=lengths[:before])
        try:
            for bucket in range(done, last):
                for cells in stretches.read(bucket):
                    writer.append(*cells)
                    countdown.advance(len(cells[2]))
                for passed in range(first, first + int(np.searchsorted(ends, writer.num_whole, side="right"))):
                    stretches.remove(passed)
            writer.finish()
        finally:
            writer.close()
        write_rest(folder)
        consolidate(folder)
        self.partial.save(datasets=[*self.partial.state["datasets"], number], seen=asdict(self.inputs.seen))
        for bucket in range(first, last):
            stretches.remove(bucket)


class _InOrder:
    """Stretches of the inputs themselves."""

    def __init__(self, inputs: Inputs, plan: Plan) -> None:
        self._inputs, self._bounds, self._at_once = inputs, plan.buckets, plan.cells_at_once

    def read(self, bucket: int) -> Iterator[Rows]:
        """Yield values, columns and numbers of values of a stretch, some cells at a time."""
        start, stop = self._bounds[bucket : bucket + 2].tolist()
        for first in range(start, stop, self._at_once):
            yield self._inputs.read(first, min(first + self._at_once, stop))

    def remove(self, bucket: int) -> None:
        """Do nothing: inputs stay."""


def finish(store: Path, out: Path, provenance: dict[str, Any]) -> None:
    """Make the data sets a collection, write its checksums, and give it its name.

    Parameters
    ----------
    store
        The folder with the data sets.
    out
        What it is called then; a folder of this name is replaced.
    provenance
        Where the cells are from, for the attributes.
    """
    (store / MANIFEST).unlink(missing_ok=True)
    write_group(store, "annbatch-preshuffled", scmodelforge=provenance)
    consolidate(store)
    write_manifest(store)
    replaced = store.with_name("replaced")
    if out.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        out.rename(replaced)
    store.rename(out)
    sync_folder(out.absolute().parent)
