"""How the predictors of a run stand to each other: means over folds, paired differences, and who is best, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from scmodelforge.connectome.comparison import PairedDifference, paired_difference

__all__ = ["KNOWS", "METRIC", "Comparison", "Standing", "Where", "comparisons", "standings", "table_of", "verdict"]

Where = Literal["inner", "cross"]

METRIC = "pearson_r"
KNOWS = {"genes": "genes", "coordinates": "coordinates", "both": "genes + coordinates", "nothing": "nothing"}
"""What a predictor uses, in words."""


@dataclass(frozen=True, eq=False)
class Standing:
    """A predictor over all folds and seeds.

    Attributes
    ----------
    name, kind, uses
        What it is, and what it knows of a region.
    inner, cross
        Each metric of each fold, of pairs of two held-out regions and of one; NaN where there is none.
    num_pairs
        Inner pairs of each fold; 0 where that is not known.
    """

    name: str
    kind: str
    uses: str
    inner: dict[str, np.ndarray]
    cross: dict[str, np.ndarray]
    num_pairs: tuple[int, ...]

    @property
    def knows(self) -> str:
        """What it predicts from, in words."""
        return KNOWS[self.uses]

    @property
    def r(self) -> np.ndarray:
        """Pearson r of the inner pairs of each fold."""
        return self.values(METRIC, known=False)

    @property
    def mean(self) -> float:
        """Mean of r over the folds that have one."""
        return _mean(self.r)

    @property
    def num_scored(self) -> int:
        """Folds that have an r."""
        return int(np.isfinite(self.r).sum())

    def values(self, metric: str, where: Where = "inner", *, known: bool = True) -> np.ndarray:
        """Return a metric of each fold, or of each that has it."""
        parts = self.inner if where == "inner" else self.cross
        found = parts.get(metric, np.full(len(self.num_pairs), np.nan))
        return found[np.isfinite(found)] if known else found

    def to_dict(self) -> dict[str, Any]:
        """Return means and standard deviations as plain values; ``None`` for those there are not."""
        parts = {
            "pearson_r": self.r,
            "cross_pearson_r": self.values(METRIC, "cross"),
            "mse": self.values("mse"),
        }
        return {
            "name": self.name,
            "kind": self.kind,
            "uses": self.uses,
            "num_folds": len(self.r),
            **{f"{name}_mean": _or_none(_mean(values)) for name, values in parts.items()},
            **{f"{name}_sd": _or_none(_sd(values)) for name, values in parts.items()},
        }


class Comparison(NamedTuple):
    """Pearson r of inner pairs of one predictor minus that of another, on the same folds."""

    name: str
    against: str
    gap: PairedDifference

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ``None`` for those there are not."""
        parts = {"mean": self.gap.mean, "low": self.gap.low, "high": self.gap.high}
        counts = {"num_better": self.gap.num_better, "num_folds": self.gap.num_folds}
        numbers = {name: _or_none(value) for name, value in parts.items()}
        return {"name": self.name, "against": self.against, **numbers, **counts}


def standings(rows: Sequence[Mapping[str, Any]]) -> list[Standing]:
    """Return all predictors of the rows of ``scores.json``, the best mean r first.

    Those that lack the r of some fold stand behind: a mean over other folds, easier ones perhaps, is no rank.
    """
    found = []
    for name, kind, uses in dict.fromkeys((row["name"], row["kind"], row["uses"]) for row in rows):
        own = [row for row in rows if (row["name"], row["kind"]) == (name, kind)]
        inner, cross = (_by_metric([row[where] for row in own]) for where in ("inner", "cross"))
        found.append(Standing(name, kind, uses, inner, cross, tuple(row.get("num_pairs", 0) for row in own)))
    return sorted(found, key=lambda each: (-each.num_scored, -each.mean if each.num_scored else 0.0))


def _by_metric(scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for each in scores for name in each)
    return {
        name: np.array([np.nan if (value := each.get(name)) is None else value for each in scores]) for name in names
    }


def comparisons(found: Sequence[Standing], test_share: float) -> list[Comparison]:
    """Return Pearson r of the model minus that of each baseline, and of the best predictor minus that of each other.

    Those without any r, as a constant is, are compared with none.

    Parameters
    ----------
    found
        All predictors, the best first.
    test_share
        Share of the regions that a fold holds out.
    """
    found = [each for each in found if each.num_scored]
    firsts = [each for each in found if each.kind == "model"]
    firsts += [each for each in found[:1] if each not in firsts]
    pairs = [(one, other) for one in firsts for other in found if other is not one]
    return [Comparison(a.name, b.name, paired_difference(a.r, b.r, test_share=test_share)) for a, b in pairs]


def table_of(found: Sequence[Standing], compared: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the table of a run, the best first."""
    gaps = _of_model(found, compared)
    columns = ["predictor", "knows", "r", "MSE", "r cross", *(["model minus it", "better in"] if gaps else [])]
    rows = []
    for each in found:
        row = [f"{each.name}{' (model)' if each.kind == 'model' else ''}", each.knows]
        mse, cross = _mean(each.values("mse")), _mean(each.values(METRIC, "cross"))
        row += [_with_sd(each.r), _number(mse, 4), _number(cross)]
        if gaps:
            gap = gaps.get(each.name)
            row += ["", ""] if gap is None else [_interval(gap), f"{gap.num_better} of {gap.num_folds}"]
        rows.append(row)
    if not any(each.uses == "coordinates" for each in found):
        rows.append(
            ["coordinates alone", "coordinates", "none: the regions have no coordinates", *[""] * (len(columns) - 3)]
        )
    return columns, rows


def verdict(found: Sequence[Standing], compared: Sequence[Comparison]) -> list[str]:
    """Return a line each: who is best, over how many pairs, where the model stands, how to the best and to places."""
    gaps = _of_model(found, compared)
    ranked = [each for each in found if each.num_scored and each.num_scored == found[0].num_scored]
    if not ranked:
        return ["no predictor has a correlation: there are too few pairs in a fold, or they do not vary."]
    best, model = ranked[0], next((each for each in ranked if each.kind == "model"), None)
    lines = [
        f"best on pairs of two held-out regions: {best.name} ({best.knows}), r {_with_sd(best.r)} over {_folds(best)}"
    ]
    places = next((each for each in ranked if each.uses == "coordinates"), None)
    if model is not None:
        rival = next((each for each in ranked if each is not model), None) if best is model else best
        if best is not model:
            lines.append(f"the model {model.name} is number {_rank(model, ranked)}, r {_with_sd(model.r)}")
        lines += [
            _against(model, each, gaps[each.name])
            for each in dict.fromkeys((rival, places))
            if each is not None and each.name in gaps
        ]
    if not any(each.uses == "coordinates" for each in found):
        lines.append(
            "coordinates alone: not known, since the regions have no coordinates. Near regions are alike, so without "
            "that row these scores do not show that genes matter"
        )
    elif model is None and places is not None and places is not best:
        lines.append(f"coordinates alone: {places.name}, r {_with_sd(places.r)}")
    return lines + [
        f"{each.name} has an r on {each.num_scored} of {len(each.r)} folds and is not ranked"
        for each in found
        if each not in ranked and each.uses != "nothing"  # a constant never has one
    ]


def _rank(model: Standing, ranked: Sequence[Standing]) -> str:
    return f"{ranked.index(model) + 1} of {len(ranked)}"


def _folds(each: Standing) -> str:
    """Return how many folds a mean is over, and how many pairs each of them scores."""
    folds = f"{each.num_scored} fold{'s' if each.num_scored > 1 else ''}"
    low, high = min(each.num_pairs), max(each.num_pairs)
    if not low:
        return folds
    return f"{folds} of {low:,} pairs" if low == high else f"{folds} of {low:,} to {high:,} pairs"


def _of_model(found: Sequence[Standing], compared: Sequence[Comparison]) -> dict[str, PairedDifference]:
    """Return the differences of the model to each other predictor by its name; none without a model."""
    models = [each.name for each in found if each.kind == "model"]
    return {each.against: each.gap for each in compared if each.name in models}


def _against(model: Standing, rival: Standing, gap: PairedDifference) -> str:
    side = "above" if gap.mean > 0 else "below"
    what = f"{rival.name} ({rival.knows})"
    line = f"{model.name} is {abs(gap.mean):.3f} {side} {what}"
    if not np.isfinite(gap.low):
        return f"{line}; one fold says nothing of how sure that is"
    holds = "holds 0: it may be chance" if gap.low <= 0 <= gap.high else "does not hold 0"
    folds = f"better in {gap.num_better} of {gap.num_folds} folds"
    return f"{line}; the 95 % interval [{gap.low:+.3f}, {gap.high:+.3f}] {holds} ({folds})"


def _interval(gap: PairedDifference) -> str:
    if not np.isfinite(gap.mean):
        return "-"
    return f"{gap.mean:+.3f}" + (f" [{gap.low:+.3f}, {gap.high:+.3f}]" if np.isfinite(gap.low) else "")


def _with_sd(values: np.ndarray) -> str:
    sd = _sd(values)
    return _number(_mean(values)) + (f" ± {sd:.3f}" if np.isfinite(sd) else "")


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _sd(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
