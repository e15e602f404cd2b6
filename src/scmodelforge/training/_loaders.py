"""The loader of some cells of a source, made of the settings of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scmodelforge.config.schema import DataConfig
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.protocols import BlockEncoder, CellSource
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.training_order import training_order
from scmodelforge.data.types import CellBlock

__all__ = ["make_loader"]


def make_loader(
    source: CellSource,
    encoder: BlockEncoder,
    preprocess: Callable[[CellBlock], CellBlock],
    positions: np.ndarray,
    config: DataConfig,
    *,
    shuffle: bool,
    batch_size: int,
    seed: int,
    collate: Callable[[Any], Any],
    rank: int = 0,
    world_size: int = 1,
    num_micro_batches: int = 1,
) -> CellLoader:
    """Return the loader of a process.

    Parameters
    ----------
    source, encoder, preprocess, batch_size, seed, collate, rank, world_size, num_micro_batches
        As for :class:`~scmodelforge.data.loader.CellLoader`.
    positions
        The cells, shape (N,), int64, ascending.
    config
        Settings of the data: blocks, buffer, streams, threads and, with ``shuffle``, sampling.
    shuffle
        Shuffled and sampled for training; else in order, each process a part.
    """
    if shuffle:
        global_batch_size = batch_size * num_micro_batches * world_size
        order = training_order(source, positions, config, seed=seed, global_batch_size=global_batch_size)
    else:
        order = GlobalOrder(
            source.file_sizes,
            positions,
            seed=seed,
            block_size=config.block_size,
            buffer_size=config.buffer_size,
            num_streams=config.num_streams,
            shuffle=False,
        )
    return CellLoader(
        source,
        encoder,
        preprocess,
        order,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        num_micro_batches=num_micro_batches,
        num_workers=config.num_workers,
        seed=seed,
        collate=collate,
    )
