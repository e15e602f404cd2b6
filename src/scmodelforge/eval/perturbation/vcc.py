"""Metrics of the Virtual Cell Challenge, under the names and by the rules of cell-eval 0.8.2.

Effects are means less the mean of the control of the *same* file, so predicted controls matter. DE genes are those of
a Wilcoxon test with a false discovery rate below 0.05, ranked by absolute log2 fold change.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from scmodelforge.eval.perturbation.causes import constant_side, flat_causes
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.de import FDR, RankSums, rank_sums
from scmodelforge.eval.perturbation.distances import edistance
from scmodelforge.eval.perturbation.means import mae, mse, pearson, spearman
from scmodelforge.eval.perturbation.ranks import ALONE, Distance, distances_to, ranks_within
from scmodelforge.eval.perturbation.scores import Comparison, Score

__all__ = ["HEADLINE", "de_scores", "discrimination", "mean_scores", "vcc_scores"]

HEADLINE = ("overlap_at_N", "discrimination_score_l1", "mae")
"""DES, PDS and MAE: what the score of the challenge is made of."""

_TOPS = (50, 100, 200, 500)
_LEAST_FDR = 1e-10
_Metric = Callable[[RankSums, RankSums], float]
_DISTANCES: tuple[Distance, ...] = ("l1", "l2", "cosine")


def vcc_scores(comparison: Comparison) -> list[Score]:
    """Return every metric of cell-eval but ``clustering_agreement``, which a prediction of no change can score 1 in."""
    return [*de_scores(comparison), *mean_scores(comparison), _pearson_edistance(comparison)]


def de_scores(comparison: Comparison) -> list[Score]:
    """Return the metrics of differentially expressed genes; undefined where there are fewer than two cells."""
    pairs = [_test(comparison, group) for group in comparison.groups]
    num_without = sum(pair is not None and not pair[0].is_significant.any() for pair in pairs)
    facts = {"test": "wilcoxon", "fdr": FDR, "num_without_real_de_genes": num_without}
    lacking = comparison.lacking_cells
    why = [cause or _why_not(pair) for cause, pair in zip(lacking, pairs, strict=True)]
    values = {
        name: np.array([math.nan if pair is None else metric(*pair) for pair in pairs], dtype=np.float64)
        for name, metric in _OF_PAIRS.items()
    }
    scores = [
        Score(name, found, is_detail=name not in HEADLINE, undefined=why, params=facts)
        for name, found in values.items()
    ]
    counts = values["de_nsig_counts_real"], values["de_nsig_counts_pred"]
    return [*scores, _spearman_of_counts(*counts, lacking, facts)]


def mean_scores(comparison: Comparison) -> list[Score]:
    """Return the metrics of means: errors, correlations of effects, discrimination."""
    predicted, truth = comparison.predicted_means, comparison.real_means
    changes = predicted - comparison.predicted_control, truth - comparison.real_control
    scores = [
        Score("mae", mae(predicted, truth), higher_is_better=False),
        Score("mse", mse(predicted, truth), higher_is_better=False, is_detail=True),
        Score("mae_delta", mae(*changes), higher_is_better=False, is_detail=True),
        Score("mse_delta", mse(*changes), higher_is_better=False, is_detail=True),
        Score("pearson_delta", pearson(*changes), undefined=flat_causes(*changes, "change")),
    ]
    return [*scores, *(discrimination(comparison, distance) for distance in _DISTANCES)]


def discrimination(comparison: Comparison, distance: Distance) -> Score:
    """Return 1 - rank / n of the real effect among all real effects by distance to the predicted one: PDS.

    The gene that a perturbation acts on is left out of its distances; of a combination none is, as in cell-eval.
    """
    predicted = comparison.predicted_means - comparison.predicted_control
    truth = comparison.real_means - comparison.real_control
    genes = np.array(comparison.genes)

    def to_real(row: int, others: np.ndarray) -> np.ndarray:
        kept = np.flatnonzero(genes != comparison.groups[row].perturbation)
        return distances_to(predicted[row, kept], truth[np.ix_(others, kept)], distance)

    return Score(
        f"discrimination_score_{distance}",
        1 - ranks_within(comparison.covariates, to_real),
        is_detail=distance != "l1",
        undefined=ALONE,
        params={"best": 1, "ranked": "real perturbations by distance to each prediction", "ties": "half"},
    )


def _test(comparison: Comparison, group: Group) -> tuple[RankSums, RankSums] | None:
    if not comparison.has_cells(group):
        return None
    return rank_sums(comparison.real, group), rank_sums(comparison.predicted, group)


def _why_not(pair: tuple[RankSums, RankSums] | None) -> str:
    """Return why a metric of the true DE genes is not defined where there are cells."""
    assert pair is not None
    chosen = pair[0].is_significant
    count = int(chosen.sum())
    if count == 0:
        return "the real perturbation has no DE gene"
    if count == 1:
        return "the real perturbation has one DE gene, and a correlation takes two"
    if count == len(chosen):
        return "every gene is a DE gene of the real perturbation"
    side = "real" if len(np.unique(pair[0].log2_fold[chosen])) == 1 else "predicted"
    return f"the {side} fold changes of the DE genes are all the same"


def _overlap(top: int | None) -> _Metric:
    """Return the share of the first genes of the true list that are among as many of the predicted one."""

    def metric(real: RankSums, predicted: RankSums) -> float:
        ours, theirs = real.ranked(), predicted.ranked()
        return _shared(ours, theirs, min(top or len(ours), len(ours)))

    return metric


def _precision(top: int | None) -> _Metric:
    def metric(real: RankSums, predicted: RankSums) -> float:
        ours, theirs = real.ranked(), predicted.ranked()
        return _shared(ours, theirs, min(top or len(theirs), len(theirs)))

    return metric


def _shared(ours: np.ndarray, theirs: np.ndarray, count: int) -> float:
    return len(np.intersect1d(ours[:count], theirs[:count])) / count if count else 0.0


def _direction_match(real: RankSums, predicted: RankSums) -> float:
    chosen = real.is_significant
    same = np.sign(real.log2_fold[chosen]) == np.sign(predicted.log2_fold[chosen])
    return float(same.mean()) if len(same) else math.nan


def _spearman_of_changes(real: RankSums, predicted: RankSums) -> float:
    chosen = real.is_significant
    if chosen.sum() < 2:
        return math.nan
    return float(spearman(predicted.log2_fold[chosen], real.log2_fold[chosen]))


def _recall(real: RankSums, predicted: RankSums) -> float:
    count = real.is_significant.sum()
    return float((real.is_significant & predicted.is_significant).sum() / count) if count else math.nan


def _pr_auc(real: RankSums, predicted: RankSums) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(real, predicted))) if _is_mixed(real) else math.nan


def _roc_auc(real: RankSums, predicted: RankSums) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(real, predicted))) if _is_mixed(real) else math.nan


def _labelled(real: RankSums, predicted: RankSums) -> tuple[np.ndarray, np.ndarray]:
    return real.is_significant, -np.log10(np.clip(predicted.fdr, _LEAST_FDR, 1.0))


def _is_mixed(real: RankSums) -> bool:
    return 0 < real.is_significant.sum() < len(real.fdr)


_OF_PAIRS: dict[str, _Metric] = {
    "overlap_at_N": _overlap(None),
    **{f"overlap_at_{top}": _overlap(top) for top in _TOPS},
    "precision_at_N": _precision(None),
    **{f"precision_at_{top}": _precision(top) for top in _TOPS},
    "de_direction_match": _direction_match,
    "de_spearman_lfc_sig": _spearman_of_changes,
    "de_sig_genes_recall": _recall,
    "pr_auc": _pr_auc,
    "roc_auc": _roc_auc,
    "de_nsig_counts_real": lambda real, predicted: float(real.is_significant.sum()),
    "de_nsig_counts_pred": lambda real, predicted: float(predicted.is_significant.sum()),
}


def _spearman_of_counts(real: np.ndarray, predicted: np.ndarray, lacking: list[str], facts: dict) -> Score:
    """Return the rank correlation over perturbations of the numbers of DE genes; of those that have any."""

    def of_rows(rows: np.ndarray) -> float:
        rows = rows[real[rows] > 0]  # NaN is not
        return float(spearman(predicted[rows], real[rows])) if len(rows) > 1 else math.nan

    return Score(
        "de_spearman_sig",
        predicted,
        is_detail=True,
        of_rows=of_rows,
        undefined=lacking,
        undefined_over=constant_side(predicted[real > 0], real[real > 0], "numbers of DE genes above 0"),
        params=facts,
    )


def _pearson_edistance(comparison: Comparison) -> Score:
    """Return the correlation over perturbations of real and predicted energy distances to control."""
    real = comparison.each(lambda group: _to_control(comparison, group, is_real=True))
    predicted = comparison.each(lambda group: _to_control(comparison, group, is_real=False))

    def of_rows(rows: np.ndarray) -> float:
        rows = rows[np.isfinite(real[rows])]
        return float(pearson(predicted[rows], real[rows])) if len(rows) > 1 else math.nan

    return Score(
        "pearson_edistance",
        predicted,
        is_detail=True,
        of_rows=of_rows,
        undefined=comparison.lacking_cells,
        undefined_over=constant_side(predicted[np.isfinite(real)], real[np.isfinite(real)], "distances to control"),
    )


def _to_control(comparison: Comparison, group: Group, *, is_real: bool) -> float:
    if not comparison.has_cells(group):
        return math.nan
    cells = comparison.real if is_real else comparison.predicted
    return edistance(cells, group, cells, group.control)
