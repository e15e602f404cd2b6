"""The tables of a connectome run: scores, comparisons and pairs of genes, read and checked row by row."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge.connectome.comparison import PairedDifference
from scmodelforge.workflows.connectome.standing import Comparison

__all__ = ["ADVICE", "GenePair", "Score", "fault", "read_comparisons", "read_gene_pairs", "read_scores"]

#: What is needed where a file is broken: the end of every message.
ADVICE = "the folder of a connectome run is needed, as the run left it"
_USES = {
    "nothing": "nothing",
    "genes": "genes",
    "coords": "coordinates",
    "coordinates": "coordinates",
    "both": "both",
}


@dataclass(frozen=True)
class Score:
    """What one predictor scored on one fold: ``inner`` of pairs with both regions held out, ``cross`` with one.

    ``fold_name`` is what the fold holds out, such as a network, and empty where only its number is known;
    ``num_pairs`` counts its inner pairs, 0 where that is not known.
    """

    name: str
    kind: str
    uses: str
    fold: int
    seed: int
    inner: dict[str, float]
    cross: dict[str, float]
    fold_name: str = ""
    num_pairs: int = 0


@dataclass(frozen=True)
class GenePair:
    """Attention of a gene of one region to a gene of the other."""

    gene_i: str
    gene_j: str
    attention: float


def read_scores(path: Path) -> list[Score]:
    """Return the rows of ``scores.json``.

    Raises
    ------
    DataError
        If it is missing, broken, empty, or contradicts itself.
    """
    rows = _read_rows(path)
    if not rows:
        raise fault(path, "has no scores")
    scores: list[Score] = []
    for number, row in enumerate(rows):
        where = f"row {number}"
        try:
            found = Score(
                name=_text(row, "name"),
                kind=_one_of(row, "kind", {"model": "model", "baseline": "baseline"}),
                uses=_one_of(row, "uses", _USES),
                fold=_whole(row, "fold"),
                seed=_whole(row, "seed"),
                inner=_metrics(row, "inner"),
                cross=_metrics(row, "cross"),
                fold_name=_fold_name(row),
                num_pairs=_whole({"num_pairs": 0, **row}, "num_pairs"),
            )
        except ValueError as problem:
            raise fault(path, f"{where}: {problem}") from None
        scores.append(found)
    keys = [(score.name, score.seed, score.fold) for score in scores]
    kinds = {score.name: (score.kind, score.uses) for score in reversed(scores)}
    for score, key in zip(scores, keys, strict=True):
        if keys.count(key) > 1:
            raise fault(path, f"'{score.name}' has two rows of seed {score.seed}, fold {score.fold}")
        if kinds[score.name] != (score.kind, score.uses):
            raise fault(path, f"'{score.name}' has rows of different kinds or uses")
    if not any(score.inner for score in scores):
        raise fault(path, "no row has inner scores")
    return scores


def read_comparisons(path: Path, known: set[str]) -> list[Comparison]:
    """Return the rows of ``comparison.json``; ``known`` are the predictors that have scores.

    Raises
    ------
    DataError
        If it is missing or broken, or names another predictor.
    """
    comparisons = []
    for number, row in enumerate(_read_rows(path)):
        try:
            gap = PairedDifference(
                mean=_number(row, "mean"),
                low=_number(row, "low"),
                high=_number(row, "high"),
                num_better=_whole(row, "num_better"),
                num_folds=_whole(row, "num_folds"),
            )
            found = Comparison(_text(row, "name"), _text(row, "against"), gap)
        except ValueError as problem:
            raise fault(path, f"row {number}: {problem}") from None
        stranger = next((name for name in (found.name, found.against) if name not in known), None)
        if stranger is not None:
            raise fault(path, f"row {number}: '{stranger}' has no row in scores.json")
        comparisons.append(found)
    return comparisons


def read_gene_pairs(path: Path) -> list[GenePair] | None:
    """Return the rows of ``gene_pairs.csv`` by attention, the largest first; ``None`` if there is no such file.

    Raises
    ------
    DataError
        If it is broken.
    """
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        pairs = [GenePair(str(row["gene_i"]), str(row["gene_j"]), float(row["attention"])) for row in rows]
    except OSError as problem:
        raise fault(path, f"cannot be read ({problem.strerror})") from problem
    except KeyError as problem:
        raise fault(path, f"has no column {problem}") from problem
    except (ValueError, TypeError, csv.Error) as problem:
        raise fault(path, f"not readable as a table of gene pairs ({problem})") from problem
    if not all(math.isfinite(pair.attention) for pair in pairs):
        raise fault(path, "has attention that is no number")
    return sorted(pairs, key=lambda pair: -pair.attention)


def fault(path: Path, what: str) -> DataError:
    """Return the error of a file that is not as it should be: one line."""
    return DataError(f"{path}: {' '.join(what.split())}; {ADVICE}.")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise fault(path, f"cannot be read ({problem.strerror})") from problem
    except (ValueError, RecursionError) as problem:
        raise fault(path, f"not readable as JSON ({problem})") from problem
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise fault(path, "needs a list of JSON objects")
    return rows


def _value(row: dict[str, Any], key: str) -> Any:
    if key not in row:
        msg = f"'{key}' is missing"
        raise ValueError(msg)
    return row[key]


def _text(row: dict[str, Any], key: str) -> str:
    found = _value(row, key)
    if not isinstance(found, str) or not found:
        msg = f"'{key}' is {found!r}, needs a name"
        raise ValueError(msg)
    return found


def _fold_name(row: dict[str, Any]) -> str:
    """Return the name of a fold if it says more than its number and its seed do."""
    found = row.get("fold_name")
    return found if isinstance(found, str) and not found.startswith(("seed ", "fold ")) else ""


def _one_of(row: dict[str, Any], key: str, names: dict[str, str]) -> str:
    found = _value(row, key)
    if not isinstance(found, str) or found not in names:
        msg = f"'{key}' is {found!r}, needs one of {', '.join(names)}"
        raise ValueError(msg)
    return names[found]


def _whole(row: dict[str, Any], key: str) -> int:
    found = _value(row, key)
    if not isinstance(found, int) or isinstance(found, bool):
        msg = f"'{key}' is {found!r}, needs a whole number"
        raise ValueError(msg)
    return found


def _number(row: dict[str, Any], key: str) -> float:
    """Return a number; one that is not defined is NaN, which JSON may write as null."""
    found = _value(row, key)
    if found is not None and (not isinstance(found, int | float) or isinstance(found, bool)):
        msg = f"'{key}' is {found!r}, needs a number"
        raise ValueError(msg)
    return math.nan if found is None else float(found)


def _metrics(row: dict[str, Any], key: str) -> dict[str, float]:
    found = _value(row, key)
    if not isinstance(found, dict):
        msg = f"'{key}' is {found!r}, needs an object of metrics"
        raise ValueError(msg)
    return {str(name): _number(found, name) for name in found}
