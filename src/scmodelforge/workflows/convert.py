"""Any AnnData files as one annbatch-compatible collection: sharded zarr v3, the cells shuffled, memory bounded.

Two passes: cells are read in order and scattered over bucket files, each of which is one stretch of a random
permutation; then bucket after bucket is put in order in memory and appended to the output. What the output is depends
on the inputs and the settings alone, not on memory, threads or interruptions.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError, Interrupted
from scmodelforge.data._byte_sizes import parse_bytes
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.writing import SHARD_BYTES
from scmodelforge.training._files import MANIFEST, find_damage
from scmodelforge.workflows.conversion import plan as planning
from scmodelforge.workflows.conversion.inputs import Inputs
from scmodelforge.workflows.conversion.partial import Partial
from scmodelforge.workflows.conversion.steps import Conversion, finish
from scmodelforge.workflows.prepare import open_source

__all__ = ["convert", "verify"]

_log = logging.getLogger(__name__)

DATASET_CELLS = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def convert(
    inputs: Sequence[Path | str],
    out: Path,
    *,
    layer: str | None = None,
    gene_id_column: str | None = None,
    dtype: str = "auto",
    shuffle: bool = True,
    seed: int = 0,
    memory: int | str = "2GB",
    dataset_cells: int = DATASET_CELLS,
    shard_size: int | str = SHARD_BYTES,
    num_threads: int | None = None,
    force: bool = False,
) -> list[str]:
    """Write the cells of some files into a collection; an interrupted call goes on when repeated.

    Parameters
    ----------
    inputs
        Files or patterns, as ``data.paths`` has them. They may have different genes.
    out
        The folder to write; its name ends in ``.zarr``.
    layer, gene_id_column
        As ``data.layer`` and ``data.gene_id_column``.
    dtype
        Type of the values; ``auto`` keeps the files'. A type that does not hold a value exactly is refused.
    shuffle, seed
        Whether the cells are permuted, and what the permutation depends on. Without, one pass is enough.
    memory
        Memory to take, in bytes or as text such as ``2GB``.
    dataset_cells
        Most cells of a data set of the collection.
    shard_size
        Bytes of a shard before compression.
    num_threads
        Threads that read and compress; ``None`` is one for each core, at most four.
    force
        Replace ``out`` if it is a zarr store.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    DataError, ConfigError
        For everything a user can get wrong, and when the disk is full: what was done stays.
    Interrupted
        After Ctrl-C.
    """
    budget = _bytes(memory, "--memory")
    if budget < planning.LEAST_MEMORY:
        msg = f"--memory {memory} is too little; {planning.LEAST_MEMORY >> 20} MiB are the least."
        raise ConfigError(msg)
    _check_out(out, force=force)
    settings = {
        "layer": layer,
        "gene_id_column": gene_id_column,
        "dtype": dtype,
        "shuffle": shuffle,
        "seed": seed,
        "dataset_cells": dataset_cells,
        "shard_bytes": _bytes(shard_size, "--shard-size"),
    }
    config = LocalDataConfig(paths=[str(path) for path in inputs], layer=layer, gene_id_column=gene_id_column)
    source: Any = open_source(config)
    threads = num_threads or min(4, os.cpu_count() or 1)
    try:
        for line in source.describe():
            _log.info(line)
        with ThreadPoolExecutor(threads) as pool:
            cells = Inputs(source, dtype=dtype, pool=pool)
            _convert(cells, out, settings, memory=budget, num_threads=threads, pool=pool)
    finally:
        source.close()
    return _closing_lines(cells, out, is_offered=dtype == "auto")


def verify(out: Path) -> list[str]:
    """Compare a collection with the checksums that were written along with it.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    DataError
        If it has none, or if a file is missing or not as it was written; the message names it.
    """
    if not (out / MANIFEST).is_file():
        what = "is no folder" if not out.is_dir() else f"has no {MANIFEST}"
        msg = f"{out} {what}; only what 'scmodelforge convert' has finished can be verified."
        raise DataError(msg)
    damage = find_damage(out)
    if damage is not None:
        msg = f"{out}: {damage}; copy it again from where it came, or convert again."
        raise DataError(msg)
    files = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
    size = sum(facts["size"] for facts in files.values())
    return [f"{out}: {len(files):,} files of {size / 1e9:,.2f} GB are as they were written"]


def _bytes(size: str | int, option: str) -> int:
    try:
        return parse_bytes(size)
    except ValueError as error:
        msg = f"{option}: {error}."
        raise ConfigError(msg) from None


def _convert(
    inputs: Inputs, out: Path, settings: dict[str, Any], *, memory: int, num_threads: int, pool: ThreadPoolExecutor
) -> None:
    """Do what an earlier call with the same inputs and settings has not done."""
    sample = planning.take_sample(inputs)
    plan = planning.make_plan(
        len(inputs),
        sample,
        memory=memory,
        **{name: settings[name] for name in ("dataset_cells", "shuffle", "seed")},
    )
    fingerprint = inputs.source.fingerprint()
    facts = [fingerprint, settings, plan.buckets.tolist(), __version__]
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    provenance = {"version": __version__, **settings, "inputs": fingerprint}
    with Partial.open(out, identity=identity, num_cells=len(inputs)) as partial:
        needed = planning.needed_on_disk(sample, num_cells=len(inputs)) - partial.num_bytes()
        planning.check_disk(out.absolute().parent, needed)
        try:
            work = Conversion(inputs, plan, partial, settings["shard_bytes"], num_threads=num_threads, pool=pool)
            work.run()
            finish(partial.store, out, provenance)
        except KeyboardInterrupt as stop:
            msg = f"stopped; what was done is kept in {partial.folder}, and the same command goes on from there."
            raise Interrupted(msg) from stop
        except OSError as problem:
            if problem.errno not in _NO_SPACE:
                raise
            msg = (
                f"the disk of {partial.folder} is full; what was done is kept: make room, and the same command goes "
                "on from there."
            )
            raise DataError(msg) from problem
        partial.remove()


def _check_out(out: Path, *, force: bool) -> None:
    """Make sure that the output can be written, before any work is done for it."""
    if out.suffix != ".zarr":
        msg = f"{out} does not end in .zarr; the last path is the folder to write, as in: convert a.h5ad cells.zarr"
        raise DataError(msg)
    if out.exists() and not force:
        msg = f"{out} exists; choose another name, or replace it with --force."
        raise DataError(msg)
    if out.exists() and not (out / "zarr.json").is_file() and not (out / ".zgroup").is_file():
        msg = f"{out} is not a zarr store, so it is not replaced; move it away, or choose another name."
        raise DataError(msg)
    if not os.access(out.absolute().parent, os.W_OK):
        msg = f"cannot write to {out.absolute().parent}; make the folder, or choose one you may write to."
        raise DataError(msg)


def _closing_lines(inputs: Inputs, out: Path, *, is_offered: bool) -> list[str]:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    lines = [
        f"{out}: {len(inputs):,} cells, {len(inputs.genes):,} genes, {inputs.dtype}, {size / 1e6:,.1f} MB",
        "obs, var and the matrix were carried over; uns, obsm, varm, obsp, varp and other matrices were not",
    ]
    smaller = next(kind for kind in ("uint8", "uint16", "uint32", "int64") if inputs.seen.largest <= np.iinfo(kind).max)
    if is_offered and inputs.seen.are_whole and np.dtype(smaller).itemsize < inputs.dtype.itemsize:
        lines.append(
            f"all values are whole numbers of at most {inputs.seen.largest:,}: with --dtype {smaller} they would take "
            f"{np.dtype(smaller).itemsize} instead of {inputs.dtype.itemsize} bytes in memory and less on the disk"
        )
    return [*lines, f"check it: scmodelforge convert --verify {out}"]
