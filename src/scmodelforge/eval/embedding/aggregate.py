"""Averages of metrics: how well biology is kept, how well batches are mixed, and 0.6 and 0.4 of these (scIB)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scmodelforge.eval.embedding.catalogue import AGGREGATES, METRICS
from scmodelforge.eval.embedding.measures import Score

__all__ = ["aggregates"]

_WEIGHTS = {"bio_conservation": 0.6, "batch_correction": 0.4}


def aggregates(values: Mapping[str, float | None], reasons: Mapping[str, str | None]) -> dict[str, Score]:
    """Return the averages of the computed metrics, by their names.

    What is averaged depends on which metrics were asked for, never on which of them could be computed: an average that
    lacks a member is not given, so that those of two representations are of the same metrics.

    Parameters
    ----------
    values
        The metrics that were asked for; ``None`` where one is not defined.
    reasons
        Why not.
    """
    found = {name: _average(name, values, reasons) for name in _WEIGHTS}
    members = [each for score in found.values() for each in score.params["metrics"]]
    lacking = [name for name, score in found.items() if score.value is None]
    params = {"metrics": members, "weights": dict(_WEIGHTS)}
    if lacking:
        reasons_of: dict[str | None, list[str]] = {}
        for name in lacking:
            reasons_of.setdefault(found[name].reason, []).append(name)
        reason = "; ".join(f"no {' and no '.join(names)}: {why}" for why, names in reasons_of.items())
        found["total"] = Score(None, reason, params)
    else:
        total = sum(weight * (found[name].value or 0.0) for name, weight in _WEIGHTS.items())
        found["total"] = Score(total, params=params, library="arithmetic")
    return {name: found[name] for name in AGGREGATES}


def _average(name: str, values: Mapping[str, float | None], reasons: Mapping[str, str | None]) -> Score:
    members = [metric for metric in values if metric in METRICS and METRICS[metric].averaged_in == name]
    params = {"metrics": members}
    if not members:
        return Score(None, "none of its metrics is listed", params)
    lacking = [metric for metric in members if values[metric] is None]
    if lacking:
        return Score(None, _lacking(lacking, reasons), params)
    return Score(sum(values[metric] or 0.0 for metric in members) / len(members), params=params, library="arithmetic")


def _lacking(metrics: Sequence[str], reasons: Mapping[str, str | None]) -> str:
    of_reason: dict[str | None, list[str]] = {}
    for metric in metrics:
        of_reason.setdefault(reasons[metric], []).append(metric)
    parts = [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not defined ({why})"
        for why, names in of_reason.items()
    ]
    return "; ".join(parts)
