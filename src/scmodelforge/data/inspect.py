"""What an expression matrix holds and what gene ids look like, told from a sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["ValueKind", "describe_gene_ids", "describe_values", "gene_id_type", "is_whole"]

#: log1p of any count per cell stays below this: exp(20) is 485 million.
_LOG_LIMIT = 20.0
#: Spread over mean of the cells' totals up to which they count as equal.
_EQUAL_TOTALS = 0.01
#: Share of the ids that must be of one kind to name it.
_DOMINANT = 0.7
#: Share of the ids that Ensembl ids and symbols each need for a mixture.
_MIXED = 0.1
#: Ids that are looked at, spread evenly over all: more would take longer than reading the file's genes does.
_SAMPLED_IDS = 2_000

_ID_PATTERNS = {
    "ensembl_human": re.compile(r"ENSG\d{11}(\.\d+)?(_PAR_Y)?"),
    "ensembl_mouse": re.compile(r"ENSMUSG\d{11}(\.\d+)?"),
    "ensembl_other": re.compile(r"ENS[A-Z]{3,4}G\d{11}(\.\d+)?"),
    "number": re.compile(r"\d+(\.\d+)?"),
    "symbol": re.compile(r"(?!ENS[A-Z]*\d{11})(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._:/@()-]{0,39}"),
}
_ID_WORDS = {
    "ensembl_human": "human Ensembl ids",
    "ensembl_mouse": "mouse Ensembl ids",
    "ensembl_other": "Ensembl ids of another species",
    "number": "numbers",
    "symbol": "gene symbols",
    "mixed": "a mixture of Ensembl ids and symbols",
    "unknown": "neither Ensembl ids nor gene symbols",
}


@dataclass(frozen=True, slots=True)
class ValueKind:
    """What the values of an expression matrix look like.

    Attributes
    ----------
    kind
        ``counts`` (non-negative whole numbers), ``log1p``, ``normalized`` (non-negative, not whole, not logged),
        ``scaled`` (with negative values), ``invalid`` (with NaN or infinite values) or ``empty`` (no value but 0).
    evidence
        What was seen, as a part of a sentence.
    """

    kind: Literal["counts", "log1p", "normalized", "scaled", "invalid", "empty"]
    evidence: str


def is_whole(values: np.ndarray) -> np.ndarray:
    """Return which values are whole numbers, bool, same shape. NaN and infinite values are not."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.rint(values) - values == 0)


def describe_values(sample: np.ndarray, indptr: np.ndarray | None = None) -> ValueKind:
    """Tell what the values of an expression matrix are.

    Parameters
    ----------
    sample
        Values of some cells, shape (n,); zeros may be left out.
    indptr
        Start of each cell in ``sample``, shape (cells + 1,), if the cells are whole. Equal totals over the cells
        then tell normalised values from logged ones; without them the highest value decides.
    """
    values = np.asarray(sample, dtype=np.float64).ravel()
    num_wrong = int(np.count_nonzero(~np.isfinite(values)))
    if num_wrong:
        return ValueKind("invalid", f"{num_wrong:,} of {len(values):,} values are NaN or infinite")
    if not values.any():
        return ValueKind("empty", "every value is 0")
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0:
        number = int(np.count_nonzero(values < 0))
        few = ", the others whole numbers" if is_whole(values).all() else ""
        return ValueKind("scaled", f"{number:,} of {len(values):,} values are negative, the lowest {lowest:.4g}{few}")
    if is_whole(values).all():
        return ValueKind("counts", f"whole numbers up to {highest:,.0f}")
    seen = f"not whole numbers, the highest {highest:.4g}"
    totals, spread = _totals(values, indptr)
    if highest < _LOG_LIMIT:
        log_totals, log_spread = _totals(np.expm1(values), indptr)
        if log_spread <= min(_EQUAL_TOTALS, spread):
            return ValueKind("log1p", f"{seen}; without the logarithm every cell sums to {_text(log_totals)}")
    if spread <= _EQUAL_TOTALS:
        return ValueKind("normalized", f"{seen}; every cell sums to {_text(totals)}")
    return ValueKind("log1p" if highest < _LOG_LIMIT else "normalized", seen)


def gene_id_type(ids: Iterable[str]) -> Literal["ensembl_human", "ensembl_mouse", "symbol", "mixed", "unknown"]:
    """Tell what gene ids are. Ensembl ids of other species, and numbers, are ``unknown`` here."""
    kind = _id_kind(_sample_ids(ids))
    return "unknown" if kind in ("ensembl_other", "number") else kind  # type: ignore[return-value]


def describe_gene_ids(ids: Iterable[str]) -> str:
    """Return what gene ids look like, in words with an example: ``human Ensembl ids (ENSG00000121410, ...)``."""
    sample = _sample_ids(ids)
    kind = _id_kind(sample)
    if not sample:
        return _ID_WORDS[kind]
    pattern = _ID_PATTERNS.get(kind)
    example = next((name for name in sample if pattern is None or pattern.fullmatch(name)), sample[0])
    return f"{_ID_WORDS[kind]} ({example}, ...)"


def _sample_ids(ids: Iterable[str]) -> list[str]:
    names = ids if isinstance(ids, np.ndarray) else list(ids)
    if len(names) > _SAMPLED_IDS:
        names = [names[place] for place in np.linspace(0, len(names) - 1, _SAMPLED_IDS).astype(np.int64).tolist()]
    return [str(name) for name in names if str(name)]


def _id_kind(sample: list[str]) -> str:
    if not sample:
        return "unknown"
    counts = Counter(
        next((kind for kind, pattern in _ID_PATTERNS.items() if pattern.fullmatch(name)), "unknown") for name in sample
    )
    kind, count = counts.most_common(1)[0]
    if count >= _DOMINANT * len(sample):
        return kind
    ensembl = sum(counts[name] for name in ("ensembl_human", "ensembl_mouse", "ensembl_other"))
    named = ensembl + counts["symbol"]
    is_mixed = min(ensembl, counts["symbol"]) >= _MIXED * len(sample) and named >= _DOMINANT * len(sample)
    return "mixed" if is_mixed else "unknown"


def _totals(values: np.ndarray, indptr: np.ndarray | None) -> tuple[float, float]:
    """Return the mean of the cells' totals and their standard deviation over it; NaN and infinity if not to be told."""
    if indptr is None:
        return np.nan, np.inf
    starts = np.asarray(indptr)[:-1][np.diff(indptr) > 0]
    if len(starts) < 3:  # a few cells have alike totals by chance
        return np.nan, np.inf
    totals = np.add.reduceat(values, starts)
    return float(totals.mean()), float(totals.std() / totals.mean())


def _text(total: float) -> str:
    return f"{total:,.0f}" if total >= 100 else f"{total:.4g}"
