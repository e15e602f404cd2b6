"""Groups of cells drawn whole, such as donors and batches, for intervals over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.data.draws import generator

__all__ = ["FEWEST_GROUPS", "GroupDraws", "draw_groups"]

FEWEST_GROUPS = 3
"""For an interval over groups. With three of them it spans the scores of the single groups."""


class GroupDraws(NamedTuple):
    """How often each group is drawn when as many are drawn as there are.

    Attributes
    ----------
    is_known
        Whether a cell has a group, shape (n,); those without one are in no draw.
    codes
        Group of each cell that has one.
    times
        Draws of each group, shape (resamples, K).
    """

    is_known: np.ndarray
    codes: np.ndarray
    times: np.ndarray


def draw_groups(groups: np.ndarray, *purpose: str, seed: int, resamples: int) -> GroupDraws | None:
    """Draw whole groups of cells with replacement; ``None`` below :data:`FEWEST_GROUPS`.

    Parameters
    ----------
    groups
        Group of each cell, shape (n,), str; empty for a cell without one.
    purpose, seed
        Base of the draws.
    resamples
        How many.
    """
    is_known = groups != ""
    names, codes = np.unique(groups[is_known], return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return None
    random = generator(seed, *purpose)
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return GroupDraws(is_known, codes, times)
