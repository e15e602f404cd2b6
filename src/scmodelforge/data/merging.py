"""Tables and gene panels of several files as one: nothing is dropped, nothing changes its value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["RowNames", "merge_columns", "union_of_genes"]

_NAMES_AT_ONCE = 16_384


def union_of_genes(panels: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return all genes of some panels, each once, and which of them each panel's columns are.

    Genes come in the order of the first panel that has them. The second and further columns of a gene within a panel
    are genes of their own, called ``GENE-1``, ``GENE-2``, as anndata makes names unique.

    Parameters
    ----------
    panels
        Gene ids of each file's columns.

    Returns
    -------
    The genes, shape (G,), dtype object (str), and for each panel the gene of each column, int64.
    """
    plain = {gene for panel in panels for gene in panel}
    place: dict[tuple[str, int], int] = {}
    names: list[str] = []
    columns = []
    for panel in panels:
        seen: Counter[str] = Counter()
        found = np.empty(len(panel), dtype=np.int64)
        for number, gene in enumerate(panel):
            key = (gene, seen[gene])
            seen[gene] += 1
            if key not in place:
                place[key] = len(names)
                names.append(_unused(gene, key[1], plain))
            found[number] = place[key]
        columns.append(found)
    return np.array(names, dtype=object), columns


def _unused(gene: str, number: int, taken: set[str]) -> str:
    if not number:
        return gene
    name = f"{gene}-{number}"
    while name in taken:
        number += 1
        name = f"{gene}-{number}"
    taken.add(name)
    return name


def merge_columns(parts: Sequence[tuple[Any, int]]) -> Any:
    """Return one column from what each of several files has of it.

    Parameters
    ----------
    parts
        For each file its values, or ``None`` where it has no such column, and its number of rows. Values are numbers,
        a nullable array of pandas, or texts as a Categorical.

    Returns
    -------
    Numbers of a type that holds all; integers and booleans with missing rows are nullable, other numbers NaN there.
    Texts are a Categorical with the categories of all files, -1 where missing, or, if no two are the same and none is
    missing, an array. Numbers and texts together become texts.
    """
    present = [values for values, _ in parts if values is not None]
    if any(_is_text(values) for values in present):
        return _merge_texts([(None if v is None else _as_texts(v), n) for v, n in parts])
    return _merge_numbers(parts)


def _is_text(values: Any) -> bool:
    import pandas as pd

    return isinstance(values, pd.Categorical)


def _as_texts(values: Any) -> Any:
    import pandas as pd

    return values if isinstance(values, pd.Categorical) else pd.Categorical(pd.Series(values).astype("string"))


def _merge_numbers(parts: Sequence[tuple[Any, int]]) -> Any:
    import pandas as pd

    present = [values for values, _ in parts if values is not None]
    kinds = [np.dtype(getattr(values.dtype, "numpy_dtype", values.dtype)) for values in present]
    kind = np.result_type(*kinds)
    missing = np.concatenate([np.full(n, True) if v is None else np.asarray(_missing(v)) for v, n in parts])
    filler = np.nan if kind.kind == "f" else kind.type(0)
    values = np.concatenate([np.full(n, filler, kind) if v is None else _plain(v, kind, filler) for v, n in parts])
    if kind.kind == "f" or not missing.any():
        return values
    array = pd.arrays.BooleanArray if kind.kind == "b" else pd.arrays.IntegerArray
    return array(values, missing)


def _missing(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(values.isna())


def _plain(values: Any, kind: np.dtype[Any], filler: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values.astype(kind, copy=False)
    return np.asarray(values.to_numpy(dtype=kind, na_value=filler))


def _merge_texts(parts: Sequence[tuple[Any, int]]) -> Any:
    import pandas as pd

    present = [values for values, _ in parts if values is not None]
    kinds = {values.categories.dtype for values in present}
    is_number = len(kinds) == 1 and next(iter(kinds)).kind in "iuf"
    merged: dict[Any, int] = {}
    codes = []
    for values, size in parts:
        if values is None:
            codes.append(np.full(size, -1, dtype=np.int32))
            continue
        own = values.categories if is_number else [str(category) for category in values.categories]
        renumbered = [merged.setdefault(category, len(merged)) for category in own]
        codes.append(np.array([*renumbered, -1], dtype=np.int32)[values.codes])
    together = np.concatenate(codes)
    categories = np.array(list(merged), dtype=next(iter(kinds)) if is_number else object)
    if not is_number and len(categories) == len(together) and len(np.unique(together)) == len(together) > 1:
        return categories[together]
    is_ordered = len(present) == len(parts) and all(
        values.ordered and values.categories.equals(present[0].categories) for values in present
    )
    return pd.Categorical.from_codes(together, categories, ordered=is_ordered)


class RowNames:
    """Names of the cells of several files, each once: a name that repeats gets the file's name, then the row's number.

    Parameters
    ----------
    names
        All names, file after file.
    sizes
        Cells of each file.
    labels
        What a file's cells get when their name repeats.

    Attributes
    ----------
    num_changed
        How many names repeated.
    """

    def __init__(self, names: Iterable[str], sizes: Sequence[int], labels: Sequence[str]) -> None:
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._labels = labels
        packed, lengths, hashes = [], [], []
        remaining = iter(names)
        while batch := list(islice(remaining, _NAMES_AT_ONCE)):
            encoded = [name.encode() for name in batch]
            packed.append(b"".join(encoded))
            lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
            hashes.append(_hashes(batch))
        self._bytes = b"".join(packed)
        self._offsets = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]))
        self._levels = np.zeros(len(self._offsets) - 1, dtype=np.uint8)
        self._make_unique(np.concatenate([np.zeros(0, dtype=np.uint64), *hashes]))
        self.num_changed = int(np.count_nonzero(self._levels))

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the names of some cells, shape (n,), dtype object (str)."""
        files = np.searchsorted(self._starts, positions, side="right") - 1
        found = np.empty(len(positions), dtype=object)
        for number, (position, file) in enumerate(zip(positions.tolist(), files.tolist(), strict=True)):
            name = self._bytes[self._offsets[position] : self._offsets[position + 1]].decode()
            if self._levels[position]:
                name = f"{name}-{self._labels[file]}"
            if self._levels[position] > 1:
                name = f"{name}-{position - self._starts[file]}"
            found[number] = name
        return found

    def _make_unique(self, hashes: np.ndarray) -> None:
        """Raise the level of names that repeat; equal hashes are taken for equal names, which changes one in vain."""
        for level in (1, 2):
            _, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
            repeated = np.flatnonzero(counts[place] > 1)
            self._levels[repeated] = level
            for start in range(0, len(repeated), _NAMES_AT_ONCE):
                rows = repeated[start : start + _NAMES_AT_ONCE]
                hashes[rows] = _hashes(self.take(rows).tolist())


def _hashes(names: list[str]) -> np.ndarray:
    import pandas as pd

    return np.asarray(pd.util.hash_array(np.array(names, dtype=object), categorize=False))
