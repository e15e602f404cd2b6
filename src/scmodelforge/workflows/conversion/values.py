"""What is seen of the values that are converted, and what a user should know of them; they are kept as they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from scmodelforge.data.inspect import ValueKind, is_whole

__all__ = ["Values", "warn_of_kind"]

_ADVICE = {
    "not finite": "'scmodelforge train' refuses such values",
    "negative": "tokenizers of 'scmodelforge train' that need counts refuse such values; the others want none below 0",
    "not whole": "tokenizers of 'scmodelforge train' that need counts refuse such values",
}
_ORDER = tuple(_ADVICE)
_KINDS = {"invalid": "not finite", "scaled": "negative", "log1p": "not whole", "normalized": "not whole"}
_WORDS = {
    "invalid": "holds NaN or infinite values",
    "scaled": "holds negative values, as scaled data do",
    "log1p": "looks log-normalised",
    "normalized": "looks normalised",
}
_KEPT = "the collection has them as they are. If the file has counts elsewhere, name their place with --layer."


def warn_of_kind(name: str, kind: ValueKind) -> str | None:
    """Return a line on a file whose sampled values are no counts, or ``None``."""
    if kind.kind not in _KINDS:
        return None
    return f"warning: {name} {_WORDS[kind.kind]} ({kind.evidence}); {_ADVICE[_KINDS[kind.kind]]}; {_KEPT}"


@dataclass
class Values:
    """What was seen of the values.

    Attributes
    ----------
    are_whole
        Whether all are whole numbers of at least 0.
    largest
        The largest, while they are whole.
    odd
        For each file that holds no counts the worst that was seen: what it is, its row, the value as text.
    """

    are_whole: bool = True
    largest: int = 0
    odd: dict[str, list[str | int]] = field(default_factory=dict)

    def add(self, values: np.ndarray, lengths: np.ndarray, *, file: str, start: int) -> None:
        """Look at some more.

        Parameters
        ----------
        values
            Values of some rows, shape (nnz,).
        lengths
            Values of each row, shape (n,).
        file, start
            The file, and the number of the first row there.
        """
        if not len(values):
            return
        found = self._worst(values, file)
        if found is not None:
            what, index = found
            row = start + int(np.searchsorted(np.cumsum(lengths), index, side="right"))
            self.odd[file] = [what, row, f"{values[index]:.6g}"]
            self.are_whole = False
        if self.are_whole:
            self.largest = max(self.largest, int(values.max()))

    def warnings(self, known: Collection[str]) -> list[str]:
        """Return a line for each file that holds no counts, but those whose sample told it already (``known``)."""
        return [
            f"warning: {name}: row {row:,} holds {_value(str(value), str(what))}; {_ADVICE[str(what)]}; {_KEPT}"
            for name, (what, row, value) in self.odd.items()
            if name not in known
        ]

    def _worst(self, values: np.ndarray, file: str) -> tuple[str, int] | None:
        """Return what is worse than all that was seen of the file, and where it is first."""
        seen = _ORDER.index(str(self.odd[file][0])) if file in self.odd else len(_ORDER)
        if not seen:
            return None
        lowest, highest = values.min(), values.max()  # NaN if there is one
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            return "not finite", int(np.argmin(np.isfinite(values)))
        if seen > 1 and lowest < 0:
            return "negative", int(np.argmax(values < 0))
        if seen > 2 and values.dtype.kind == "f" and not (whole := is_whole(values)).all():
            return "not whole", int(np.argmin(whole))
        return None


def _value(value: str, what: str) -> str:
    words = {"nan": "NaN", "inf": "an infinite value", "-inf": "an infinite value"}
    return words.get(value, f"{value}, {'a negative value' if what == 'negative' else 'not a whole number'}")
