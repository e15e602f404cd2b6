"""Any AnnData files as one annbatch-compatible collection: sharded zarr v3, the cells shuffled, memory bounded.

Two passes: cells are read in order and scattered over bucket files, each of which is one stretch of a random
permutation; then bucket after bucket is put in order in memory and appended to the output. What the output is depends
on the inputs and the settings alone, not on memory, threads or interruptions.
"""

from __future__ import annotations

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
from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.data._byte_sizes import format_bytes, parse_bytes
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.writing import SHARD_BYTES
from scmodelforge.training._files import MANIFEST, find_damage
from scmodelforge.workflows.conversion import plan as planning
from scmodelforge.workflows.conversion.inputs import Inputs
from scmodelforge.workflows.conversion.output import check_out, check_place, partial_of
from scmodelforge.workflows.conversion.partial import Partial, keeping
from scmodelforge.workflows.conversion.steps import Conversion, finish
from scmodelforge.workflows.conversion.values import warn_of_kind
from scmodelforge.workflows.prepare import open_source, with_data_sets

__all__ = ["DamageError", "convert", "verify"]

_log = logging.getLogger(__name__)

DATASET_CELLS = 1 << 20


class DamageError(DataError):
    """A collection that is not as it was written."""


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
        least = -(-planning.LEAST_MEMORY // 10**6)
        msg = f"--memory {memory} is too little: it is {budget / 1e6:,.1f} MB, and {least:,} MB are the least."
        raise ConfigError(msg)
    shard_bytes = _bytes(shard_size, "--shard-size")
    if shard_bytes < 1:
        msg = f"--shard-size {shard_size} leaves no room for values; give the size of a file, such as 1GB."
        raise ConfigError(msg)
    files = LocalDataConfig(paths=[str(path) for path in inputs], layer=layer, gene_id_column=gene_id_column)
    config: Any = with_data_sets(files)
    check_out(out, config.paths, force=force)
    settings = {
        "layer": layer,
        "gene_id_column": gene_id_column,
        "dtype": dtype,
        "shuffle": shuffle,
        "seed": seed,
        "dataset_cells": dataset_cells,
        "shard_bytes": shard_bytes,
    }
    source: Any = open_source(config)
    threads = num_threads or min(4, os.cpu_count() or 1)
    try:
        for line in source.describe():
            _log.info(line)
        warned = _warn_of_samples(source)
        with ThreadPoolExecutor(threads) as pool:
            cells = Inputs(source, dtype=dtype, pool=pool)
            for line in cells.warnings():
                _log.warning(line)
            _convert(cells, out, settings, memory=budget, num_threads=threads, pool=pool)
        for line in cells.seen.warnings(warned):
            _log.warning(line)
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
    DamageError
        If a file is missing or not as it was written; the message names it.
    DataError
        If there is no collection that was finished.
    """
    check_place(out)
    if not (out / MANIFEST).is_file():
        raise DataError(_not_finished(out))
    damage = find_damage(out)
    if damage is not None:
        msg = f"{out}: {damage}; copy it again from where it came, or convert again."
        raise DamageError(msg)
    files = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
    size = sum(facts["size"] for facts in files.values())
    return [f"{out}: {len(files):,} files of {format_bytes(size)} are as they were written"]


def _not_finished(out: Path) -> str:
    """Return why a path is no collection that can be verified."""
    if out.is_dir():
        what = f"{out} is no collection that 'scmodelforge convert' has finished: it has no {MANIFEST}"
        return f"{what}; only such a collection can be verified."
    if out.exists():
        return f"{out} is a file, and --verify checks the folder that 'scmodelforge convert' has written."
    if partial_of(out).is_dir():
        return f"{out} is not there, only unfinished work, {partial_of(out)}; repeat the command that wrote it."
    folder = out.absolute().parent
    if not folder.is_dir():
        return f"{out} is not there, nor is the folder {folder}; correct the path."
    names = [path.name for path in folder.iterdir() if path.is_dir()] if os.access(folder, os.R_OK) else []
    return f"{out} is not there.{nearest(out.name, names) or ' Correct the path.'}"


def _warn_of_samples(source: LocalSource) -> list[str]:
    """Warn of files whose samples are no counts, before the long work, and return their names."""
    lines = {panel.name: warn_of_kind(panel.name, source.kind(number)) for number, panel in enumerate(source.panels)}
    found = {name: line for name, line in lines.items() if line is not None}
    for line in found.values():
        _log.warning(line)
    return list(found)


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
        with keeping(partial):
            planning.check_disk(out.absolute().parent, needed)
            work = Conversion(inputs, plan, partial, settings["shard_bytes"], num_threads=num_threads, pool=pool)
            work.run()
            finish(partial.store, out, provenance)
        partial.remove()


def _closing_lines(inputs: Inputs, out: Path, *, is_offered: bool) -> list[str]:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    lines = [
        f"{out}: {len(inputs):,} cells, {len(inputs.genes):,} genes, {inputs.dtype}, {format_bytes(size)}",
        "obs, var and the matrix were carried over; uns, obsm, varm, obsp, varp and other matrices were not",
    ]
    smaller = next(kind for kind in ("uint8", "uint16", "uint32", "int64") if inputs.seen.largest <= np.iinfo(kind).max)
    if is_offered and inputs.seen.are_whole and np.dtype(smaller).itemsize < inputs.dtype.itemsize:
        lines.append(
            f"all values are whole numbers of at most {inputs.seen.largest:,}: with --dtype {smaller} they would take "
            f"{np.dtype(smaller).itemsize} instead of {inputs.dtype.itemsize} bytes in memory and less on the disk"
        )
    return [*lines, f"check it: scmodelforge convert --verify {out}"]
