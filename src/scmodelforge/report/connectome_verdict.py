"""In words: what a connectome run predicted, how regions were held out, and who won."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.text import without_places
from scmodelforge.workflows.connectome import standing

__all__ = ["cautions", "setting", "verdict", "what_was_done"]

_HELD_OUT = {
    "random": "at random",
    "homotopic": "together with their twins in the other hemisphere",
    "spatial": "in blocks of neighbours",
    "network": "by whole networks",
}


def setting(run: ConnectomeRun, *names: str) -> str | None:
    """Return the first setting of one of these names, wherever it stands in the config or the record."""
    for facts in (run.config, run.record):
        for name in names:
            found = _found(facts, name)
            if isinstance(found, str) and found:
                return found
    return None


def what_was_done(run: ConnectomeRun) -> list[str]:
    """Return what was predicted, how regions were held out, and what the two kinds of scores are."""
    target, data = setting(run, "target"), setting(run, "dataset")
    of = f" ({without_places(target)})" if target else ""
    whose = f" of '{without_places(data)}'" if data else ""
    seeds = {score.seed for score in run.scores}
    num_folds = len({score.fold for score in run.scores})
    folds = f"{num_folds} fold{'s' if num_folds != 1 else ''}"
    times = f" for each of {len(seeds)} seeds" if len(seeds) > 1 else ""
    how = f"Regions were held out{_how(run)}, {folds}{times}"
    if _is_pair_wise(run):
        how = f"Pairs were held out at random, {folds}{times}"
    return [
        f"The connectivity{of} of pairs of {len(run.regions):,} brain regions{whose} was predicted.",
        f"{how}; every predictor saw the same folds unless the tables say otherwise.",
        "The score is of pairs of two held-out regions (inner). Pairs of a held-out region and one of training (cross) "
        "are easier and stand apart.",
    ]


def verdict(run: ConnectomeRun) -> list[str]:
    """Return what the command said under its table, as sentences."""
    return [f"{line[0].upper()}{line[1:]}." for line in standing.verdict(run.standings, run.comparisons)]


def cautions(run: ConnectomeRun) -> list[str]:
    """Return what must be known to read the scores: splits that leak, and pairs without a prediction."""
    notes = []
    if _is_pair_wise(run):
        notes.append(
            "Pairs were held out, not regions: both regions of nearly every scored pair were in training, so these "
            "scores say little of regions that were never seen."
        )
    if not np.isfinite(run.predicted[~np.eye(len(run.regions), dtype=bool)]).any():
        notes.append("No pair has a prediction: no fold held out two regions together.")
    return notes


def _how(run: ConnectomeRun) -> str:
    strategy = setting(run, "strategy")
    if strategy is None:
        return ""
    return f" {_HELD_OUT[strategy]}" if strategy in _HELD_OUT else f" by the strategy '{strategy}'"


def _is_pair_wise(run: ConnectomeRun) -> bool:
    return (setting(run, "strategy") or "").startswith("pair")


def _found(facts: dict[str, Any], name: str) -> Any:
    if name in facts:
        return facts[name]
    inner = (_found(each, name) for each in facts.values() if isinstance(each, dict))
    return next((each for each in inner if each is not None), None)
