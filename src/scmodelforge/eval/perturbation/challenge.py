"""The score of the Virtual Cell Challenge: how far DES, PDS and MAE are from a mean baseline to the best there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scmodelforge.eval.perturbation.baselines import Training
from scmodelforge.eval.perturbation.cells import Expression, remembered
from scmodelforge.eval.perturbation.conditions import CONTROL, Group
from scmodelforge.eval.perturbation.scores import Comparison, Score
from scmodelforge.eval.perturbation.vcc import HEADLINE, de_scores, mean_scores, vcc_scores

__all__ = ["challenge_parts", "challenge_scores", "challenge_suite"]

_SHORT = {"overlap_at_N": "des", "discrimination_score_l1": "pds", "mae": "mae"}
_NO_BASELINE = "there are no training conditions to make the mean baseline of"


def challenge_suite(training: Training) -> Callable[[Comparison], Sequence[Score]]:
    """Return what gives all metrics of cell-eval and the challenge's score over a baseline of training conditions."""

    def suite(comparison: Comparison) -> list[Score]:
        scores = vcc_scores(comparison)
        return [*scores, *challenge_scores(comparison, scores, training)]

    return suite


def challenge_parts(scores: Mapping[str, float], baseline: Mapping[str, float], *, clip: bool) -> dict[str, float]:
    """Return the parts of the score and ``score``, their mean.

    ``overlap_at_N`` and ``discrimination_score_l1`` give (score - baseline) / (1 - baseline), ``mae`` gives
    1 - score / baseline; what is not a number is 0.

    Parameters
    ----------
    scores, baseline
        The three metrics, means over perturbations, of a prediction and of the mean baseline.
    clip
        Take a part below 0 for 0, as the challenge does. However bad ``mae`` is, it then costs no more.
    """
    parts = {}
    for name in HEADLINE:
        ours, theirs = scores[name], baseline[name]
        gain, room = (theirs - ours, theirs) if name == "mae" else (ours - theirs, 1 - theirs)
        part = gain / room if room else 0.0
        part = 0.0 if math.isnan(part) else part
        parts[name] = max(part, 0.0) if clip else part
    return {**parts, "score": sum(parts.values()) / len(parts)}


def challenge_scores(comparison: Comparison, scores: Sequence[Score], training: Training) -> list[Score]:
    """Return the challenge's score and its parts, clipped as there and unclipped.

    The baseline predicts one profile for every perturbation and every cell: the mean of the training perturbations and
    of the control, each counted once, as ``cell-eval baseline`` makes it of a training file.
    """
    ours = {score.metric: score for score in scores if score.metric in HEADLINE}
    theirs = _baseline(comparison, training) if training.means else None
    found = []
    for name in ("score", *HEADLINE):
        for clip in (True, False):
            found.append(_score(name, ours, theirs, clip=clip, num_groups=len(comparison.groups)))
    return found


@dataclass(frozen=True)
class _MeanCells:
    """One profile of each covariate for every cell, and the real controls."""

    profiles: Mapping[str, np.ndarray]
    real: Expression
    memo: dict = field(default_factory=dict)

    def home(self, group: Group) -> Expression:
        """Return the real cells for controls, else these."""
        return self.real if group.perturbation == CONTROL else self

    def size(self, group: Group) -> int:
        return self.real.size(group)

    def mean(self, group: Group) -> np.ndarray:
        return self.real.mean(group) if group.perturbation == CONTROL else self.profiles[group.covariate]

    def cells(self, group: Group) -> np.ndarray:
        if group.perturbation == CONTROL:
            return self.real.cells(group)
        profile = self.profiles[group.covariate]
        return np.broadcast_to(profile, (self.size(group), len(profile)))


def _baseline(comparison: Comparison, training: Training) -> dict[str, Score]:
    def compute() -> dict[str, Score]:
        profiles = {}
        for name, control in training.controls.items():
            means = [control + change for change in training.changes(name).values()]
            profiles[name] = np.mean([*means, control], axis=0)
        mine = Comparison(_MeanCells(profiles, comparison.real), comparison.real, comparison.groups, comparison.genes)
        return {score.metric: score for score in (*de_scores(mine), *mean_scores(mine)) if score.metric in HEADLINE}

    return remembered(comparison.real, ("mean baseline", comparison.groups), compute)


def _score(
    name: str, ours: Mapping[str, Score], theirs: Mapping[str, Score] | None, *, clip: bool, num_groups: int
) -> Score:
    def of_rows(rows: np.ndarray) -> float:
        if theirs is None:
            return math.nan
        means = [{metric: each.value(rows) for metric, each in side.items()} for side in (ours, theirs)]
        if not all(math.isfinite(value) for side in means for value in side.values()):
            return math.nan
        return challenge_parts(*means, clip=clip)[name]

    short = "vcc_score" if name == "score" else f"vcc_{_SHORT[name]}"
    return Score(
        short if clip else f"{short}_unclipped",
        np.array([of_rows(np.array([row])) for row in range(num_groups)]),
        is_detail=name != "score",
        undefined=[_cause(row, ours, theirs) for row in range(num_groups)],
        of_rows=of_rows,
        params={"baseline": "mean of the training perturbations and the control", "clipped_below_0": clip},
    )


def _cause(row: int, ours: Mapping[str, Score], theirs: Mapping[str, Score] | None) -> str:
    """Return why a perturbation has no part of the score; empty where it has."""
    if theirs is None:
        return _NO_BASELINE
    lacking = (each.cause(row) for side in (ours, theirs) for each in side.values() if np.isnan(each.values[row]))
    return next(lacking, "")
