"""How the predictors of a run stand to each other: means over folds, paired differences, and who is best, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scmodelforge.connectome.comparison import PairedDifference, paired_difference

__all__ = ["Comparison", "Standing", "comparisons", "standings", "table_of", "verdict"]

_METRIC = "pearson_r"
_IN_WORDS = {"genes": "genes", "coordinates": "coordinates", "both": "genes + coordinates", "nothing": "nothing"}


@dataclass(frozen=True)
class Standing:
    """A predictor over all folds and seeds.

    Attributes
    ----------
    name, kind, uses
        What it is, and what it knows of a region.
    r, cross_r, mse
        Pearson r of inner and cross pairs and squared error of inner ones, of each fold; NaN where there is none.
    """

    name: str
    kind: str
    uses: str
    r: np.ndarray
    cross_r: np.ndarray
    mse: np.ndarray

    @property
    def mean(self) -> float:
        """Mean of r over the folds that have one."""
        return _mean(self.r)

    def to_dict(self) -> dict[str, Any]:
        """Return means and standard deviations as plain values; ``None`` for those there are not."""
        parts = {"pearson_r": self.r, "cross_pearson_r": self.cross_r, "mse": self.mse}
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


def standings(rows: Sequence[dict[str, Any]]) -> list[Standing]:
    """Return all predictors of the rows of ``scores.json``, the best first."""
    found = []
    for name, kind, uses in dict.fromkeys((row["name"], row["kind"], row["uses"]) for row in rows):
        own = [row for row in rows if (row["name"], row["kind"]) == (name, kind)]
        values = [
            np.array([np.nan if row[part][metric] is None else row[part][metric] for row in own])
            for part, metric in (("inner", _METRIC), ("cross", _METRIC), ("inner", "mse"))
        ]
        found.append(Standing(name, kind, uses, *values))
    return sorted(found, key=lambda each: -each.mean if np.isfinite(each.mean) else np.inf)


def comparisons(found: Sequence[Standing], test_share: float) -> list[Comparison]:
    """Return Pearson r of the model minus that of each baseline, and of the best predictor minus that of each other.

    Parameters
    ----------
    found
        All predictors, the best first.
    test_share
        Share of the regions that a fold holds out.
    """
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
        row = [f"{each.name}{' (model)' if each.kind == 'model' else ''}", _IN_WORDS[each.uses]]
        row += [_with_sd(each.r), _number(_mean(each.mse), 4), _number(_mean(each.cross_r))]
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
    """Return who is best, how the model stands to it, and how to coordinates alone: a line each."""
    gaps = _of_model(found, compared)
    known = [each for each in found if np.isfinite(each.mean)]
    if not known:
        return ["no predictor has a correlation: there are too few pairs in a fold, or they do not vary."]
    best, model = known[0], next((each for each in known if each.kind == "model"), None)
    lines = [f"best on pairs of two held-out regions: {best.name} ({_IN_WORDS[best.uses]}), r {_with_sd(best.r)}"]
    places = next((each for each in known if each.uses == "coordinates"), None)
    if model is not None:
        rival = next((each for each in known if each is not model), None) if best is model else best
        if rival is not None:
            lines.append(_against(model, rival, gaps[rival.name]))
        if places is not None and places is not rival:
            lines.append(_against(model, places, gaps[places.name]))
    if places is None:
        lines.append("coordinates alone: not known, since the regions have no coordinates")
    elif model is None and places is not best:
        lines.append(f"coordinates alone: {places.name}, r {_with_sd(places.r)}")
    return lines


def _of_model(found: Sequence[Standing], compared: Sequence[Comparison]) -> dict[str, PairedDifference]:
    """Return the differences of the model to each other predictor by its name; none without a model."""
    models = [each.name for each in found if each.kind == "model"]
    return {each.against: each.gap for each in compared if each.name in models}


def _against(model: Standing, rival: Standing, gap: PairedDifference) -> str:
    side = "above" if gap.mean > 0 else "below"
    what = f"{rival.name} ({_IN_WORDS[rival.uses]})"
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
