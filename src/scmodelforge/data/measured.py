"""What is known of genes without a token: which were measured, and which had no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data._kernels import copy_rows, take_rows

__all__ = ["Measured", "row_offsets"]


@dataclass(slots=True)
class Measured:
    """What is known of the genes that are not among a cell's tokens: a gene without a token need not be a zero.

    Attributes
    ----------
    panels
        Tokens of the genes each file measures, each ascending. Blocks of one file share the array.
    panel_index
        Which of ``panels`` is each cell's, shape (n,), int64.
    cut_offsets, cut_ids
        Tokens of the genes a cell expresses but that had no room in its sequence, ragged: cell ``i`` owns
        ``cut_ids[cut_offsets[i]:cut_offsets[i + 1]]``.
    """

    panels: tuple[np.ndarray, ...]
    panel_index: np.ndarray
    cut_offsets: np.ndarray
    cut_ids: np.ndarray

    def select(self, rows: np.ndarray) -> Measured:
        """Return what is known of the given cells, in the given order."""
        offsets = row_offsets(np.diff(self.cut_offsets)[rows])
        cut_ids = take_rows(self.cut_ids, self.cut_offsets, rows, offsets)
        return Measured(self.panels, self.panel_index[rows], offsets, cut_ids)

    def part(self, start: int, stop: int) -> Measured:
        """Return what is known of a range of cells, sharing memory."""
        offsets = self.cut_offsets[start : stop + 1]
        cut_ids = self.cut_ids[int(offsets[0]) : int(offsets[-1])]
        return Measured(self.panels, self.panel_index[start:stop], offsets - offsets[0], cut_ids)

    @staticmethod
    def gather(parts: Sequence[Measured], part_of: np.ndarray, rows: np.ndarray) -> Measured:
        """Return what is known of cells of several parts: for each its part and its row there, shape (n,), int64."""
        panels, renumbered = _merged_panels(parts)
        panel_index, places, cut_offsets = np.empty(len(rows), dtype=np.int64), [], np.zeros(len(rows) + 1, np.int64)
        for number, (part, new) in enumerate(zip(parts, renumbered, strict=True)):
            here = np.flatnonzero(part_of == number)
            panel_index[here] = new[part.panel_index[rows[here]]]
            cut_offsets[here + 1] = np.diff(part.cut_offsets)[rows[here]]
            places.append(here)
        np.cumsum(cut_offsets, out=cut_offsets)
        cut_ids = np.empty(cut_offsets[-1], dtype=parts[0].cut_ids.dtype)
        for part, here in zip(parts, places, strict=True) if len(cut_ids) else ():
            starts = part.cut_offsets[rows[here]]
            copy_rows(part.cut_ids, starts, cut_offsets[here + 1] - cut_offsets[here], cut_offsets[here], cut_ids)
        return Measured(panels, panel_index, cut_offsets, cut_ids)

    @staticmethod
    def concatenate(parts: Sequence[Measured]) -> Measured:
        """Return what is known of the cells of all parts, in order. The list may not be empty."""
        panels, renumbered = _merged_panels(parts)
        return Measured(
            panels=panels,
            panel_index=np.concatenate([new[part.panel_index] for new, part in zip(renumbered, parts, strict=True)]),
            cut_offsets=row_offsets(np.concatenate([np.diff(part.cut_offsets) for part in parts])),
            cut_ids=np.concatenate([part.cut_ids for part in parts]),
        )


def row_offsets(lengths: np.ndarray) -> np.ndarray:
    """Return where each of some rows begins and the last ends, shape (n + 1,), int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _merged_panels(parts: Sequence[Measured]) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """Return the panels of all parts, each once, and for each part the new numbers of its own."""
    panels = {id(panel): panel for part in parts for panel in part.panels}
    place = {identity: number for number, identity in enumerate(panels)}
    return tuple(panels.values()), [np.array([place[id(panel)] for panel in part.panels], np.int64) for part in parts]
