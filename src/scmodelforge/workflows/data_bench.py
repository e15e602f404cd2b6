"""How fast data load on this machine, and what limits it: one shuffled pass with every stage timed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scmodelforge.data.loader import CellLoader
from scmodelforge.data.protocols import BlockEncoder
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.types import Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.workflows.bench_stages import Clock, Measured, Rows, TimedEncoder, TimedSource, run_pass
from scmodelforge.workflows.prepare import open_source

__all__ = ["BenchReport", "bench_data"]

_log = logging.getLogger(__name__)

Stage = Literal["reading", "tokenising", "the consumer", "waiting"]
_MAX_TOKENS = 2048
#: Loops are compiled for many cells only.
_WARM_UP = 4096


@dataclass
class BenchReport:
    """What one shuffled pass took.

    Attributes
    ----------
    cells, threads, batch_size, tokens
        What was loaded, and how.
    seconds, cpu_seconds
        From the start of iterating to the last batch; of all threads.
    first_batch_seconds
        From the start of iterating to the first batch.
    rss_growth_mib
        Peak memory above that before iterating; ``None`` where the system does not tell.
    megabytes_per_second
        Read from files, the page cache included; ``None`` where the system does not tell.
    stages
        Seconds of each stage, over all threads. ``waiting`` is for the disk, or for a core or lock, while reading.
    bottleneck, advice
        The stage that limits, and what to do about it.
    """

    cells: int
    threads: int
    batch_size: int
    tokens: str
    seconds: float
    cpu_seconds: float
    first_batch_seconds: float
    rss_growth_mib: float | None
    megabytes_per_second: float | None
    stages: dict[Stage, float]
    bottleneck: Stage
    advice: str

    @property
    def cells_per_second(self) -> float:
        """Cells that were materialised per second."""
        return self.cells / self.seconds

    @property
    def cells_per_cpu_second(self) -> float:
        """Cells per second of all cores together."""
        return self.cells / self.cpu_seconds


def bench_data(
    paths: Sequence[str],
    *,
    cells: int = 100_000,
    threads: int = 2,
    batch_size: int = 256,
    tokens: Literal["rank_value", "none"] = "rank_value",
    layer: str | None = None,
    seed: int = 0,
) -> BenchReport:
    """Load shuffled batches of some files and time it.

    Parameters
    ----------
    paths, layer
        As ``data.paths`` and ``data.layer``.
    cells
        Most cells to load: the same share of each file, from its beginning.
    threads
        Threads that read and tokenise, as ``data.num_workers``.
    batch_size
        Cells of a batch.
    tokens
        ``rank_value`` for padded batches of up to 2,048 rank tokens, ``none`` for sparse rows.
    seed
        Of the order.
    """
    config = LocalDataConfig(paths=list(paths), layer=layer)
    source: Any = open_source(config)
    clock = Clock()
    try:
        for line in source.describe():
            _log.info(line)
        encoder, collate = _encoder(source.panels, tokens)
        positions = _positions(source.file_sizes, cells)
        for some in (positions[:_WARM_UP], positions):  # the first compiles what is not compiled yet
            clock.spent.clear()
            loader = CellLoader(
                TimedSource(source, clock),
                TimedEncoder(encoder, clock),
                lambda block: block,
                _order(source.file_sizes, some, config, seed),
                batch_size=batch_size,
                seed=seed,
                collate=collate,
                num_workers=threads,
            )
            measured = run_pass(loader)
        packing = source.stored(0).packing
    finally:
        source.close()
    stages = _stages(clock, measured)
    bottleneck = _bottleneck(stages, measured, threads=threads)
    return BenchReport(
        cells=len(positions),
        threads=threads,
        batch_size=batch_size,
        tokens=tokens,
        seconds=measured.seconds,
        cpu_seconds=measured.cpu_seconds,
        first_batch_seconds=measured.first,
        rss_growth_mib=measured.growth,
        megabytes_per_second=None if measured.num_read is None else measured.num_read / 1e6 / measured.seconds,
        stages=stages,
        bottleneck=bottleneck,
        advice=_advice(bottleneck, packing, paths[0]),
    )


def _encoder(panels: list[Panel], tokens: str) -> tuple[BlockEncoder, Callable[[TokenBlock], Any]]:
    """Return what makes tokens, and what makes a batch of them."""
    if tokens == "none":
        return Rows(), len
    from scmodelforge.objectives.collate import pad
    from scmodelforge.tokenizers import get_tokenizer
    from scmodelforge.tokenizers.rank_value import RankValueConfig

    vocab = GeneVocab.from_panels(panels)
    tokenizer: Any = get_tokenizer("rank_value", RankValueConfig(max_genes=_MAX_TOKENS, medians="none"), vocab)
    return tokenizer, lambda block: pad(block, pad_id=vocab.pad_id)


def _order(sizes: Sequence[int], positions: np.ndarray, config: LocalDataConfig, seed: int) -> GlobalOrder:
    """Return the order that a run with the settings' defaults has."""
    return GlobalOrder(
        sizes,
        positions,
        seed=seed,
        block_size=config.block_size,
        buffer_size=config.buffer_size,
        num_streams=config.num_streams,
        shuffle=True,
    )


def _positions(sizes: Sequence[int], cells: int) -> np.ndarray:
    share = min(1.0, cells / sum(sizes))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.concatenate([np.arange(s, s + max(1, int(n * share))) for s, n in zip(starts, sizes, strict=True)])


def _stages(clock: Clock, measured: Measured) -> dict[Stage, float]:
    return {
        "reading": clock.spent.get("reading", 0.0),
        "tokenising": clock.spent.get("tokenising", 0.0),
        "the consumer": measured.consumer,
        "waiting": max(0.0, clock.spent.get("reading, wall", 0.0) - clock.spent.get("reading", 0.0)),
    }


def _bottleneck(stages: dict[Stage, float], measured: Measured, *, threads: int) -> Stage:
    """Return the stage that takes most of the time of what is busy longest: the threads that load, or the consumer.

    Without such threads the consumer's own time is what is left when it neither reads nor tokenises.
    """
    loading: list[Stage] = ["reading", "tokenising", "waiting"]
    longest = max(loading, key=lambda stage: stages[stage])
    if not threads:
        stages["the consumer"] = max(0.0, measured.consumer - stages["reading"] - stages["tokenising"])
        return max(stages, key=lambda stage: stages[stage])
    busy = sum(stages[stage] for stage in loading) / threads
    return "the consumer" if stages["the consumer"] > busy else longest


def _advice(bottleneck: Stage, packing: str, path: str) -> str:
    if bottleneck == "tokenising":
        return "tokenising scales with threads: raise data.num_workers (here --threads) while there are cores."
    if bottleneck == "the consumer":
        return "one thread puts the batches together and is busy all the time: no setting of the data helps."
    if bottleneck == "waiting":
        return "threads wait for the disk, or for cores that others use: copy the data to a local disk, run alone."
    name = f"scmodelforge convert {path} {Path(path).with_suffix('.zarr').name}"
    reasons = {
        "dense": f"a dense matrix is read with all its zeros: convert it once with '{name}'.",
        "gzip": f"a gzip .h5ad is limited by inflating: convert it once with '{name}', or raise data.num_workers.",
        "none": "values are stored as they are, so memory and disk limit: raise data.num_workers.",
        "zarr": "decompressing scales with threads: raise data.num_workers (here --threads).",
    }
    return reasons.get(packing, f"HDF5 reads {packing} one thread at a time: convert it once with '{name}'.")
