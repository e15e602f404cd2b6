"""The typical expression of each gene: its median over the training cells, in one pass and bounded memory.

The median of a gene is over the cells that express it, of counts divided by the cell's total over all genes of its
file, times 10,000. It is exact for up to ``EXACT_LIMIT`` values; beyond, values are counted in logarithmic buckets
(DDSketch: Masson, Rim & Lee 2019, doi:10.14778/3352063.3352135), which is at most 1 % off and, like the exact
median, does not depend on the order of the cells. Where we differ from DDSketch: the range of the buckets is fixed,
so that memory is (806 buckets of 4 bytes a gene); shares of a cell below 1e-7 or above 1 count as these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.entries import expressed_entries, has_repeats

__all__ = ["EXACT_LIMIT", "TARGET_SUM", "GeneMedians", "MedianFit", "read_medians"]

#: Values held for exact medians, 12 bytes each, before the sketch takes over.
EXACT_LIMIT = 4_000_000
#: Total of a cell that medians, and the values of tokens, refer to.
TARGET_SUM = 10_000.0

_ERROR = 0.01
_LOG_GAMMA = math.log((1 + _ERROR) / (1 - _ERROR))
_FIRST_BUCKET = math.ceil(math.log(1e-3) / _LOG_GAMMA)
_NUM_BUCKETS = math.ceil(math.log(TARGET_SUM) / _LOG_GAMMA) - _FIRST_BUCKET + 1
_METHODS = ("exact", "sketch", "file", "none")


@dataclass(frozen=True, slots=True)
class GeneMedians:
    """Medians of the genes of a vocabulary.

    Attributes
    ----------
    values
        Median of each token, shape (V,), float64; NaN for special tokens and genes without one.
    method
        ``exact``, ``sketch`` (at most 1 % off), ``file`` or ``none``.
    num_cells
        Training cells they were fitted over.
    """

    values: np.ndarray
    method: str
    num_cells: int = 0

    @classmethod
    def none(cls, vocab: GeneVocab) -> GeneMedians:
        """Return no medians: genes are ranked by their counts alone."""
        return cls(np.full(len(vocab), np.nan), "none")

    @property
    def num_genes(self) -> int:
        """Genes with a median."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    def divisors(self) -> np.ndarray:
        """Return the medians, and the middle one of them where there is none, shape (V,), float64.

        So a gene that the training cells did not express ranks as a usual one; 1 would be far from the scale of the
        others. If no gene has a median all are 1.
        """
        is_absent = np.isnan(self.values)
        middle = 1.0 if is_absent.all() else float(np.median(self.values[~is_absent]))
        return np.where(is_absent, middle, self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return the medians as plain values, ``None`` where there is none. Floats survive JSON exactly."""
        values = [None if math.isnan(value) else value for value in self.values.tolist()]
        return {"method": self.method, "num_cells": self.num_cells, "values": values}

    @classmethod
    def from_dict(cls, data: Any, vocab: GeneVocab) -> GeneMedians:
        """Make medians of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the values are not medians of this vocabulary.
        """
        values = data.get("values") if isinstance(data, Mapping) else None
        is_sound = (
            isinstance(values, list)
            and all(value is None or (isinstance(value, int | float) and 0 < value < math.inf) for value in values)
            and data.get("method") in _METHODS
            and isinstance(data.get("num_cells"), int)
        )
        if not is_sound or values is None:
            msg = "the medians in tokenizer.json are damaged; take the file as it was saved."
            raise DataError(msg)
        if len(values) != len(vocab):
            msg = (
                f"tokenizer.json has medians of {len(values):,} tokens, gene_vocab '{vocab.name}' has {len(vocab):,}; "
                "take tokenizer.json and vocab.json from the same folder."
            )
            raise DataError(msg)
        array = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        return cls(array, data["method"], data["num_cells"])


class MedianFit:
    """Fit medians to the training cells of a scan; a visitor.

    Parameters
    ----------
    vocab
        The genes.
    is_train
        Tells of cell positions, shape (n,), which are training cells, shape (n,), bool.
    store
        Called with the medians at the end.
    exact_limit
        Values held for exact medians.
    """

    def __init__(
        self,
        vocab: GeneVocab,
        is_train: Callable[[np.ndarray], np.ndarray],
        store: Callable[[GeneMedians], None],
        *,
        exact_limit: int = EXACT_LIMIT,
    ) -> None:
        self._vocab, self._is_train, self._store, self._exact_limit = vocab, is_train, store, exact_limit
        self._num_cells = 0
        self._num_values = 0
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._sketch: np.ndarray | None = None  # (V, buckets) uint32

    def update(self, block: CellBlock) -> None:
        """Add the training cells of a block of counts, of any file."""
        block = block.select(np.flatnonzero(self._is_train(block.positions)))
        columns = self._vocab.map_panel(block.panel)
        cells, tokens, counts = expressed_entries(block, columns, repeats=has_repeats(columns))
        values = counts / block.totals()[cells] * TARGET_SUM
        self._num_cells += len(np.unique(cells))
        self._num_values += len(values)
        self._held.append((tokens, values))
        if self._num_values > self._exact_limit:
            self._spill()

    def finish(self) -> None:
        """Store the medians.

        Raises
        ------
        DataError
            If no training cell expresses a gene of the vocabulary.
        """
        if self._num_values == 0:
            msg = (
                f"no training cell expresses a gene of gene_vocab '{self._vocab.name}', so there are no medians to "
                "fit; check data.gene_vocab and data.split."
            )
            raise DataError(msg)
        method, values = ("exact", self._exact()) if self._sketch is None else ("sketch", _sketch_medians(self._sketch))
        self._store(GeneMedians(values, method, self._num_cells))
        self._held, self._sketch = [], None

    def _exact(self) -> np.ndarray:
        tokens, values = (np.concatenate(arrays) for arrays in zip(*self._held, strict=True))
        values = values[np.lexsort((values, tokens))]
        counts = np.bincount(tokens, minlength=len(self._vocab))
        starts = np.cumsum(counts) - counts
        seen = np.flatnonzero(counts)
        low = values[starts[seen] + (counts[seen] - 1) // 2]
        high = values[starts[seen] + counts[seen] // 2]
        medians = np.full(len(self._vocab), np.nan)
        medians[seen] = (low + high) / 2
        return medians

    def _spill(self) -> None:
        if self._sketch is None:
            self._sketch = np.zeros((len(self._vocab), _NUM_BUCKETS), dtype=np.uint32)
        for tokens, values in self._held:
            buckets = np.ceil(np.log(values) / _LOG_GAMMA).astype(np.int64) - _FIRST_BUCKET
            np.add.at(self._sketch, (tokens, np.clip(buckets, 0, _NUM_BUCKETS - 1)), np.uint32(1))
        self._held = []


def read_medians(path: str, vocab: GeneVocab) -> GeneMedians:
    """Read medians from a JSON file ``{gene: median}`` or a text file with a gene, a tab and its median a line.

    Raises
    ------
    ConfigError
        If there is no such file.
    DataError
        If the file is neither, a median is not a number above 0, two differ for one gene, or no gene is in the
        vocabulary.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"tokenizer.medians: no file '{path}'; give 'fit', 'none', or a JSON or TSV file of genes and medians."
        raise ConfigError(msg)
    given = _read_table(file)
    tokens = vocab.map(given)
    values = np.full(len(vocab), np.nan)
    for (gene, median), token in zip(given.items(), tokens.tolist(), strict=True):
        if not 0 < median < math.inf:
            msg = f"{path}: the median of gene '{gene}' is {median}; a number above 0 is needed."
            raise DataError(msg)
        if token < 0:
            continue
        if values[token] != median and not math.isnan(values[token]):
            msg = f"{path}: gene '{gene}' has two medians, {values[token]} and {median}; list each gene once."
            raise DataError(msg)
        values[token] = median
    medians = GeneMedians(values, "file")
    if medians.num_genes == 0:
        msg = f"{path}: none of its {len(given):,} genes are in gene_vocab '{vocab.name}'; use its kind of gene ids."
        raise DataError(msg)
    return medians


def _read_table(file: Path) -> dict[str, float]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".json":
            return {str(gene): float(median) for gene, median in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError) as problem:
        msg = f"{file}: not readable as medians ({problem}); a JSON object {{gene: median}} or a TSV file is needed."
        raise DataError(msg) from problem
    table: dict[str, float] = {}
    is_first = True
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        gene, tab, median = line.partition("\t")
        is_heading = is_first and bool(tab) and not _is_number(median)
        is_first = False
        if is_heading:
            continue
        if not _is_number(median):
            msg = f"{file}, line {number}: '{line}' is not a gene, a tab and its median; write one gene a line so."
            raise DataError(msg)
        if table.setdefault(gene, float(median)) != float(median):
            msg = f"{file}: gene '{gene}' has two medians, {table[gene]} and {float(median)}; list each gene once."
            raise DataError(msg)
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sketch_medians(sketch: np.ndarray) -> np.ndarray:
    """Return the median of each row of bucket counts, NaN where there are none."""
    totals = sketch.sum(axis=1, dtype=np.int64)
    medians = np.full(len(sketch), np.nan)
    for gene in np.flatnonzero(totals):  # one row at a time: the running sums of all would be twice the sketch
        running = np.cumsum(sketch[gene], dtype=np.int64)
        middle = np.searchsorted(running, [(totals[gene] - 1) // 2, totals[gene] // 2], side="right")
        # Of a bucket (g^(i-1), g^i], this point is relatively the closest to both ends.
        points = 2 * np.exp((middle + _FIRST_BUCKET) * _LOG_GAMMA) / (math.exp(_LOG_GAMMA) + 1)
        medians[gene] = points.mean()
    return medians
