"""An obs column of which the text of some cells is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge.workflows.prepare import PreparedData

__all__ = ["ObsColumn"]


@dataclass
class ObsColumn:
    """An obs column as codes, so that text is made for the chosen cells only."""

    codes: np.ndarray
    categories: np.ndarray

    @classmethod
    def of(cls, data: PreparedData, key: str | None) -> ObsColumn | None:
        """Return a column of the data, or ``None`` without a name of one."""
        if key is None:
            return None
        codes, categories = data.source.obs(key)
        return cls(codes, np.array([*categories, ""], dtype=str))  # code -1, a missing value, is the last

    def text(self, positions: np.ndarray) -> np.ndarray:
        """Return the values of some cells, shape (n,), str; missing ones are empty."""
        values: np.ndarray = self.categories[self.codes[positions]]
        return values

    def sizes(self, positions: np.ndarray) -> dict[str, int]:
        """Return how many of some cells have each value; missing ones do not count."""
        codes = self.codes[positions]
        numbers = np.bincount(codes[codes >= 0], minlength=len(self.categories))
        return {str(name): int(number) for name, number in zip(self.categories, numbers, strict=True) if number}
