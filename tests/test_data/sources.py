"""A source in memory and an encoder whose tokens say which cell, gene, value and key they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import uniforms
from scmodelforge.data.types import CellBlock, Panel, RowRange, TokenBlock


class MemorySource:
    """Files of random sparse counts, each with a panel of its own. Keeps a list of what was read."""

    def __init__(self, sizes: Sequence[int], *, obs: dict[str, list[str | None]] | None = None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.file_sizes = list(sizes)
        self.panels = [
            Panel(np.array([f"gene{gene}" for gene in range(3 * file, 3 * file + 8)], dtype=object), f"file{file}")
            for file in range(len(self.file_sizes))
        ]
        self._counts = [rng.poisson(0.8, (size, 8)).astype(np.float32) for size in self.file_sizes]
        self._obs = obs or {}
        self.reads: list[RowRange] = []
        self.broken_file: int | None = None

    @property
    def obs_columns(self) -> list[str]:
        return list(self._obs)

    def obs(self, column: str) -> tuple[np.ndarray, list[str]]:
        if column not in self._obs:
            msg = f"memory: no obs column '{column}'; there are: {', '.join(self._obs)}"
            raise DataError(msg)
        values = self._obs[column]
        categories = sorted({value for value in values if value is not None})
        codes = [-1 if value is None else categories.index(value) for value in values]
        return np.array(codes, dtype=np.int32), categories

    def obs_names(self):
        yield from (f"cell{position}" for position in range(sum(self.file_sizes)))

    def read(self, rows: RowRange) -> CellBlock:
        if rows.file == self.broken_file:
            msg = f"file{rows.file} is damaged in rows {rows.start} to {rows.stop}"
            raise DataError(msg)
        if not 0 <= rows.start < rows.stop <= self.file_sizes[rows.file]:
            msg = f"no such rows: {rows}"
            raise AssertionError(msg)
        self.reads.append(rows)
        counts = self._counts[rows.file][rows.start : rows.stop]
        cells, genes = np.nonzero(counts)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=len(counts)))]).astype(np.int64)
        positions = sum(self.file_sizes[: rows.file]) + np.arange(rows.start, rows.stop, dtype=np.int64)
        return CellBlock(counts[cells, genes], genes.astype(np.int32), indptr, self.panels[rows.file], positions)

    def fingerprint(self) -> list[dict]:
        return [{"name": PurePath(panel.name).name} for panel in self.panels]


@dataclass
class NoisyEncoder:
    """A start token, then a token for each expressed gene; values are the counts plus a draw from the cell's key."""

    with_bins: bool = False
    bound: list[str] = field(default_factory=list)

    def bind(self, panel: Panel) -> BoundNoisyEncoder:
        self.bound.append(panel.name)
        numbers = np.array([int(gene.removeprefix("gene")) for gene in panel.gene_ids], dtype=np.int32)
        return BoundNoisyEncoder(numbers, self.with_bins)


@dataclass
class BoundNoisyEncoder:
    numbers: np.ndarray
    with_bins: bool

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        if len(block.panel.gene_ids) != len(self.numbers) or block.panel.gene_ids[0] != f"gene{self.numbers[0]}":
            msg = "the block has another panel than the encoder was bound to"
            raise AssertionError(msg)
        starts = block.indptr[:-1]
        cells = np.repeat(np.arange(len(block)), np.diff(block.indptr))
        values = block.data + uniforms(keys[cells], "noise", self.numbers[block.indices])
        ids = np.insert(self.numbers[block.indices] + 4, starts, 1).astype(np.int32)
        values = np.insert(values, starts, 0).astype(np.float32)
        offsets = block.indptr + np.arange(len(block) + 1)
        return TokenBlock(offsets, ids, values, block.positions, keys, ids % 5 if self.with_bins else None)


def unchanged(block: CellBlock) -> CellBlock:
    """Preprocess nothing."""
    return block
