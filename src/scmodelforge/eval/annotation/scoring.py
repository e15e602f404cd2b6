"""From what probes say of held-out cells to records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from scmodelforge.eval.annotation import scores
from scmodelforge.eval.annotation.groups import cell_weights, group_counts, group_weights, groups_of
from scmodelforge.eval.annotation.open_set import KNOWN_REJECTED
from scmodelforge.eval.annotation.tables import answer_tables, calibration_table, group_table
from scmodelforge.eval.annotation.task import AnnotationTask
from scmodelforge.eval.base import BenchmarkInputs, Record
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.metrics import (
    RESAMPLES,
    accuracy,
    balanced_accuracy,
    cohen_kappa,
    interval,
    macro_f1,
    weighted_f1,
)

__all__ = ["HEADLINES", "TABLE_SCORES", "Answers", "Scorer", "metric_names"]

TABLE_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
    "kappa": cohen_kappa,
}
HEADLINES = ("accuracy", "macro_f1")

_ECE = f"ece{scores.CALIBRATION_BINS}"
_CONFIDENCE_SCORES = ("auroc_macro_ovr", _ECE, "brier")
_OPEN_SCORES = ("unknown_auroc", "open_accuracy", "unseen_rejected", "seen_rejected")
_LOWER_IS_BETTER = (_ECE, "brier", "seen_rejected")


def metric_names() -> list[str]:
    """Return the scores of a probe, without its name."""
    return [*TABLE_SCORES, *_CONFIDENCE_SCORES, *_OPEN_SCORES]


@dataclass(frozen=True)
class Answers:
    """What a probe says of the held-out cells.

    Attributes
    ----------
    variant
        Name of the probe, as metrics have it.
    names
        The labels it can give, shape (K,), str.
    probabilities
        Shape (n, K), float64.
    settings
        What there is to say of the probe.
    threshold
        Confidence below which a cell is said to be of an unknown label, or ``None``.
    no_threshold
        Why there is none.
    """

    variant: str
    names: np.ndarray
    probabilities: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    no_threshold: str | None = None

    @property
    def labels(self) -> np.ndarray:
        """The most probable label of each cell, shape (n,); of several the first."""
        return np.asarray(self.names[self.probabilities.argmax(axis=1)])

    @property
    def confidence(self) -> np.ndarray:
        """Probability of that label, shape (n,)."""
        return np.asarray(self.probabilities.max(axis=1))


class Scorer:
    """Makes the records of some cells. The cells drawn for intervals are the same for all probes.

    Parameters
    ----------
    benchmark
        Name in the records.
    inputs
        Where the cells come from.
    cells
        The scored cells, with labels.
    task
        What is left out, and facts.
    """

    def __init__(self, benchmark: str, inputs: BenchmarkInputs, cells: Cells, task: AnnotationTask) -> None:
        assert cells.labels is not None
        self._benchmark, self._inputs, self._task = benchmark, inputs, task
        self._truth, self._num_given = cells.labels, len(inputs.heldout)
        self._groups, self._group_key, self.group_kind = groups_of(cells, inputs)
        self._alike = np.ones((len(cells), 1), dtype=np.float32)
        self._by_cell = cell_weights(len(cells), task.seed) if len(cells) else self._alike
        self._by_group = group_weights(self._groups, task.seed)

    def records(self, answers: Answers) -> list[Record]:
        """Return one record for each score of a probe."""
        majority = self._task.majority
        guess = np.full(len(self._truth), answers.names[0] if majority is None else majority)
        is_unseen = ~np.isin(self._truth, answers.names)
        unseen = {
            "unseen_labels": [str(name) for name in np.unique(self._truth[is_unseen])],
            "num_unseen": int(is_unseen.sum()),
        }
        settings = {**answers.settings, **unseen}
        return [
            *self.table_records(answers.labels, guess, answers.variant, settings),
            *self._confidence_records(answers, settings),
            *self._open_records(answers, settings, is_unseen),
        ]

    def skipped(self, variant: str, reason: str, names: list[str] | None = None, suffix: str = "") -> list[Record]:
        """Return the records of a probe that cannot be scored."""
        names = metric_names() if names is None else names
        return [self._none(f"{name}_{variant}{suffix}", name, reason) for name in names]

    def table_records(
        self, given: np.ndarray, guess: np.ndarray, variant: str, settings: dict[str, Any], *, suffix: str = ""
    ) -> list[Record]:
        """Return the scores of a table of true and given labels.

        Parameters
        ----------
        given
            What a probe says, shape (n,), str.
        guess
            What the label most training cells have says of each cell, shape (n,), str.
        variant, settings, suffix
            Name of the probe, what there is to say of it, and the end of its metrics' names.
        """
        names = np.unique(np.concatenate([self._truth, given, guess]))
        truth, shape = np.searchsorted(names, self._truth), (len(names), len(names))
        count = partial(scores.tables, truth, shape=shape)
        # Scores of a table are cheap and the tables of all resamples are not, so these are made once.
        answered = self._each(partial(count, np.searchsorted(names, given)))
        guessed = count(np.searchsorted(names, guess), weights=self._alike)
        found = [
            self._record(
                f"{name}_{variant}{suffix}",
                name,
                answered.scored(score),
                settings,
                baselines={"majority": float(score(guessed)[0])},
            )
            for name, score in TABLE_SCORES.items()
        ]
        table = answered.value[0].astype(np.int64)
        found[0].tables = {**answer_tables(names, table), **group_table(self._groups, self._truth == given)}
        return found

    def _confidence_records(self, answers: Answers, settings: dict[str, Any]) -> list[Record]:
        rows = answers.probabilities
        is_known = np.isin(self._truth, answers.names)
        order = np.argsort(answers.names)
        places = order[np.minimum(np.searchsorted(answers.names, self._truth, sorter=order), len(order) - 1)]
        codes = np.where(is_known, places, -1)
        confidence, is_right = answers.confidence, answers.labels == self._truth
        # Of the true label 1 is wanted and of others 0. A label that cannot be given has the probability 0.
        own = np.where(is_known, rows[np.arange(len(rows)), codes], 0.0)
        misses = (rows**2).sum(axis=1) - 2 * own + 1
        ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "auroc_macro_ovr": lambda weights: scores.macro_auroc(rows, codes, weights),
            _ECE: lambda weights: scores.calibration_error(confidence, is_right, weights),
            "brier": lambda weights: scores.mean_score(misses, weights),
        }
        found = [self._scored(f"{name}_{answers.variant}", name, way, settings) for name, way in ways.items()]
        found[0].params |= {"labels_averaged": len(np.unique(codes[codes >= 0]))}
        found[1].tables = calibration_table(confidence, is_right)
        return found

    def _open_records(self, answers: Answers, settings: dict[str, Any], is_unseen: np.ndarray) -> list[Record]:
        if not is_unseen.any() or is_unseen.all():
            which = "every" if is_unseen.any() else "no"
            reason = f"{which} held-out cell has a label that no training cell has; cells of both kinds are needed"
            return self.skipped(answers.variant, reason, list(_OPEN_SCORES))
        confidence, variant = answers.confidence, answers.variant
        found = [
            self._scored(
                f"unknown_auroc_{variant}", "unknown_auroc", partial(scores.auroc, -confidence, is_unseen), settings
            )
        ]
        if answers.threshold is None:
            return [*found, *self.skipped(variant, answers.no_threshold or "no threshold", list(_OPEN_SCORES[1:]))]
        is_rejected = confidence < answers.threshold
        is_right = np.where(is_unseen, is_rejected, ~is_rejected & (answers.labels == self._truth))
        settings = {
            **settings,
            "threshold": answers.threshold,
            "threshold_quantile": KNOWN_REJECTED,
            "share_rejected": float(is_rejected.mean()),
        }
        values = {
            "open_accuracy": (is_right, np.ones(len(is_right), dtype=bool)),
            "unseen_rejected": (is_rejected, is_unseen),
            "seen_rejected": (is_rejected, ~is_unseen),
        }
        return found + [
            self._scored(f"{name}_{variant}", name, _share(*value), settings) for name, value in values.items()
        ]

    def _each(self, score: Callable[..., np.ndarray]) -> _Draws:
        """Return a score of the cells, of resampled cells and of resampled groups."""
        by_group = None if self._by_group is None else score(weights=self._by_group)
        return _Draws(score(weights=self._alike), score(weights=self._by_cell), by_group)

    def _scored(
        self, metric: str, name: str, score: Callable[[np.ndarray], np.ndarray], settings: dict[str, Any]
    ) -> Record:
        return self._record(metric, name, self._each(score), settings)

    def _record(
        self,
        metric: str,
        name: str,
        draws: _Draws,
        settings: dict[str, Any],
        *,
        baselines: dict[str, float] | None = None,
    ) -> Record:
        by_group = None if draws.by_group is None else interval(draws.by_group)
        return self._inputs.record(
            self._benchmark,
            metric,
            float(draws.value[0]),
            interval=interval(draws.by_cell),
            group_interval=by_group,
            group_key=None if by_group is None else self._group_key,
            n=len(self._truth),
            n_skipped=self._num_given - len(self._truth),
            skipped_reason=self._task.left_out,
            params={
                **settings,
                **self._task.facts,
                **group_counts(self._groups),
                "seed": self._task.seed,
                "resamples": RESAMPLES,
            },
            baselines=baselines or {},
            library=_library(),
            is_detail=name not in HEADLINES,
            higher_is_better=name not in _LOWER_IS_BETTER,
        )

    def _none(self, metric: str, name: str, reason: str) -> Record:
        return self._inputs.record(
            self._benchmark,
            metric,
            None,
            n_skipped=self._num_given,
            skipped_reason=reason,
            library=_library(),
            is_detail=name not in HEADLINES,
            higher_is_better=name not in _LOWER_IS_BETTER,
        )


class _Draws(NamedTuple):
    """A score of the cells, shape (1,), and of resamples, shape (R,); for tables of scores with two more axes."""

    value: np.ndarray
    by_cell: np.ndarray
    by_group: np.ndarray | None

    def scored(self, score: Callable[[np.ndarray], np.ndarray]) -> _Draws:
        by_group = None if self.by_group is None else score(self.by_group)
        return _Draws(score(self.value), score(self.by_cell), by_group)


@cache
def _library() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "scipy", "numpy"))


def _share(is_counted: np.ndarray, among: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the score that is the share of some cells that are counted; NaN where none is drawn."""

    def score(weights: np.ndarray) -> np.ndarray:
        total = weights[among].sum(axis=0, dtype=np.float64)
        counted = weights[among & is_counted].sum(axis=0, dtype=np.float64)
        return np.divide(counted, total, out=np.full(len(total), np.nan), where=total > 0)

    return score
