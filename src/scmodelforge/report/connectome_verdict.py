"""In words: what a connectome run predicted, how regions were held out, and who won."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.connectome_scores import Predictor, main_metric, metric_name, plus_minus, predictors
from scmodelforge.report.text import without_places

__all__ = ["cautions", "setting", "verdict", "what_was_done"]

_MOST_NAMES = 4
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
    """Return who won, also where that is a baseline, or nobody."""
    metric = main_metric(run)
    ranked, _ = _comparable(run)
    if not ranked:
        return [f"None of the predictors has a {metric_name(metric)} that is defined."]
    best, others = ranked[0], ranked[1:]
    score = f"{metric_name(metric)} {_score(best, metric)}"
    if not others:
        return [f"Only {_named(best)} can be ranked, with a mean {score}; there is nothing to compare it with."]
    relation = {each.name: _relation(run, best.name, each.name) for each in others}
    tied = [each for each in others if relation[each.name] == "tied"]
    beaten = [each for each in others if relation[each.name] == "beaten"]
    unknown = [each for each in others if relation[each.name] == "unknown"]
    sentences = [_first(best, others, relation, score)]
    if beaten:
        sentences.append(f"It is better than {_names(beaten)} on the same folds (95 % interval of the difference).")
    if tied and (beaten or unknown):
        sentences.append(f"It cannot be told apart from {_names(tied)}.")
    if unknown and (beaten or tied):
        them = "that difference" if len(unknown) == 1 else "those differences"
        sentences.append(f"Against {_names(unknown)} there is no interval, so {them} may be chance.")
    models = [each for each in ranked if each.kind == "model"]
    if best.kind == "baseline" and models:
        sentences.append(f"The best model, {models[0].name}, has {_score(models[0], metric)}.")
    return sentences


def cautions(run: ConnectomeRun) -> list[str]:
    """Return what must be known to read the scores: places against genes, missing rows, splits that leak."""
    metric = main_metric(run)
    ranked, fewer = _comparable(run)
    notes = [_places_and_genes(ranked, metric)]
    if _is_pair_wise(run):
        notes.append(
            "Pairs were held out, not regions: both regions of nearly every scored pair were in training, so these "
            "scores say little of regions that were never seen."
        )
    most = max((len(each.values(metric)) for each in ranked), default=0)
    for each in fewer:
        num = len(each.values(metric))
        what = f"has a score on {num} of {most} folds" if num else f"has no {metric_name(metric)} that is defined"
        notes.append(f"{each.name} {what} and is left out of the ranking.")
    if not np.isfinite(_off_diagonal(run)).any():
        notes.append("No pair has a prediction: no fold held out two regions together.")
    return [note for note in notes if note]


def _first(best: Predictor, others: Sequence[Predictor], relation: dict[str, str], score: str) -> str:
    """Return the sentence that names the winner, or says that there is none."""
    tops = f"{_named(best)} has the best mean {score}"
    rivals = [each for each in others if each.kind != best.kind]
    ties = [each for each in rivals if relation[each.name] == "tied"]
    what = "its difference from each other predictor" if len(others) > 1 else "the difference"
    if all(relation[each.name] == "tied" for each in others):
        return f"Nothing can be told apart: {tops}, but the 95 % interval of {what} holds 0."
    if all(relation[each.name] == "unknown" for each in others):
        return f"No winner can be named: {tops}, but no interval of a difference was computed."
    if ties:
        return f"Neither models nor baselines win: {tops}, but it cannot be told apart from {_names(ties)}."
    if not rivals:
        return f"The best of the {best.kind}s: {tops}. No {_other(best.kind)} has as many scores to compare it with."
    if all(relation[each.name] == "unknown" for each in rivals):
        return f"No winner can be named: {tops}, but it was compared with no {_other(best.kind)}."
    return f"{'A model' if best.kind == 'model' else 'A baseline'} wins: {tops}."


def _relation(run: ConnectomeRun, best: str, other: str) -> str:
    """Return whether the best predictor is shown to be better than another, on the folds that both have."""
    for each in run.comparisons:
        if {each.name, each.against} == {best, other} and math.isfinite(each.low) and math.isfinite(each.high):
            low = each.low if each.name == best else -each.high
            return "beaten" if low > 0 else "tied"
    return "unknown"


def _comparable(run: ConnectomeRun) -> tuple[list[Predictor], list[Predictor]]:
    """Return the predictors that have a score on as many folds as any, in their order, and the others."""
    metric, ranked = main_metric(run), predictors(run)
    most = max(len(each.values(metric)) for each in ranked)
    is_full = [most > 0 and len(each.values(metric)) == most for each in ranked]
    full = [each for each, is_so in zip(ranked, is_full, strict=True) if is_so]
    return full, [each for each, is_so in zip(ranked, is_full, strict=True) if not is_so]


def _places_and_genes(ranked: Sequence[Predictor], metric: str) -> str:
    genes = next((each for each in ranked if each.knows == "genes"), None)
    places = next((each for each in ranked if each.knows == "places"), None)
    if places is None:
        return (
            "No predictor that knows places only can be ranked here. Regions that are near each other are alike, so "
            "without that row these scores do not show that genes matter."
        )
    if genes is None:
        return ""
    where, which = f"places alone ({places.name})", f"genes alone ({genes.name})"
    order = [(where, places), (which, genes)]
    if ranked.index(genes) < ranked.index(places):
        order.reverse()
    (first, one), (second, other) = order
    text = f"{first} reach {_score(one, metric)}, {second} {_score(other, metric)}."
    return f"At best, {text}"


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


def _off_diagonal(run: ConnectomeRun) -> np.ndarray:
    return run.predicted[~np.eye(len(run.regions), dtype=bool)]


def _named(each: Predictor) -> str:
    return f"{each.name} ({each.kind}, knows {each.knows})"


def _score(each: Predictor, metric: str) -> str:
    return plus_minus(each.values(metric))


def _names(them: Sequence[Predictor]) -> str:
    names = [each.name for each in them]
    if len(names) > _MOST_NAMES + 1:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _other(kind: str) -> str:
    return "baseline" if kind == "model" else "model"
