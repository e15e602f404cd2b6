"""Small loaders over a source in memory, and what their batches hold as plain values."""

from __future__ import annotations

import itertools

import numpy as np

from scmodelforge.data.loader import CellLoader
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.types import TokenBlock

from .sources import MemorySource, NoisyEncoder, unchanged

SIZES = (40, 0, 23, 30)


def make_loader(
    source=None,
    *,
    positions=None,
    sizes=SIZES,
    encoder=None,
    preprocess=unchanged,
    seed=5,
    order_changes=None,
    **changes,
) -> CellLoader:
    source = source or MemorySource(sizes)
    if positions is None:
        positions = np.arange(sum(source.file_sizes))
    layout = {"block_size": 4, "buffer_size": 32, "num_streams": 8, "shuffle": True, **(order_changes or {})}
    order = GlobalOrder(source.file_sizes, positions, seed=seed, **layout)
    given = {"batch_size": 8, "seed": seed, "collate": lambda tokens: tokens, **changes}
    return CellLoader(source, encoder or NoisyEncoder(), preprocess, order, **given)


def content(tokens: TokenBlock) -> tuple[list, ...]:
    return tuple(part.tolist() for part in (tokens.offsets, tokens.ids, tokens.values, tokens.cell_index, tokens.keys))


def contents(batches) -> list:
    return [[content(tokens) for tokens in batch] for batch in batches]


def cells_of(batch: list[TokenBlock]) -> list[int]:
    return [cell for tokens in batch for cell in tokens.cell_index.tolist()]


def take(loader: CellLoader, count: int) -> list:
    """Train for some batches: take each and mark it consumed."""
    taken = []
    for batch in itertools.islice(loader, count):
        taken.append(batch)
        loader.mark_consumed()
    return contents(taken)
