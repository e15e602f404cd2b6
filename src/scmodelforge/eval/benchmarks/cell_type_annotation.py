"""Can cell types be read off an embedding? Probes fitted on training cells, scored on held-out cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scmodelforge._errors import DataError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import column_of, sklearn_version
from scmodelforge.eval.metrics import (
    RESAMPLES,
    accuracy,
    balanced_accuracy,
    bootstrap_tables,
    cohen_kappa,
    count_table,
    interval,
    macro_f1,
    weighted_f1,
)

__all__ = ["CellTypeAnnotation", "CellTypeAnnotationConfig"]

_NAME = "cell_type_annotation"
_SCORES = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
    "kappa": cohen_kappa,
}
_HEADLINES = ("accuracy", "macro_f1")


class CellTypeAnnotationConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    min_class_size: int = Field(10, gt=0)
    """Labels with fewer cells, trained and held out together, are left out and counted."""
    probes: list[Literal["linear_probe", "knn", "knn_cosine"]] = Field(
        ["linear_probe", "knn", "knn_cosine"], min_length=1
    )
    """``linear_probe`` is logistic regression on standardised columns, ``knn`` votes of Euclidean neighbours (usual for
    PCA), ``knn_cosine`` of neighbours by angle (usual for transformers). All embeddings get all of them."""
    num_neighbors: int = Field(15, gt=0)
    """Neighbours that vote."""
    max_iter: int = Field(2000, gt=0)
    """Most iterations of the logistic regression; ``params.converged`` says whether they were enough."""


@register_benchmark(_NAME)
class CellTypeAnnotation:
    """Accuracy, macro F1, weighted F1, balanced accuracy and kappa of each probe, and of the majority guess.

    Metrics are named ``<score>_<probe>``, such as ``macro_f1_linear_probe`` and ``accuracy_knn15``. Macro F1 averages
    over labels that are true or predicted somewhere. Held-out cells of a label that no training cell has cannot be
    right: they count as errors, and ``params.unseen_labels`` names them.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = CellTypeAnnotationConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = CellTypeAnnotationConfig.model_validate(config.model_dump())

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Fit the probes on the training cells and score them on the held-out cells."""
        task = _Task.of(inputs, self.config.min_class_size)
        return [record for probe in self.config.probes for record in self._score(probe, task, inputs)]

    def _score(self, probe: str, task: _Task, inputs: BenchmarkInputs) -> list[Record]:
        k = self.config.num_neighbors
        variant = {"linear_probe": "linear_probe", "knn": f"knn{k}", "knn_cosine": f"knn{k}_cosine"}[probe]
        reason = task.obstacle
        if reason is None and probe != "linear_probe" and len(task.train_codes) < k:
            reason = f"{len(task.train_codes):,} training cells are fewer than the {k} neighbours asked for"
        if reason is not None:
            left = {"n_skipped": len(inputs.heldout), "skipped_reason": reason}
            return [
                inputs.record(_NAME, f"{name}_{variant}", None, library=sklearn_version(), is_detail=is_detail, **left)
                for name, is_detail in _metrics()
            ]
        if probe == "linear_probe":
            predicted, settings = _linear_probe(task, max_iter=self.config.max_iter)
        else:
            predicted, settings = _neighbors(task, k=k, distance="cosine" if probe == "knn_cosine" else "euclidean")
        shape = (len(task.names), len(task.names))
        table = count_table(task.heldout_codes, predicted, shape)
        draws = bootstrap_tables(table, seed=inputs.seed, purpose=f"annotation {probe}")
        guess = count_table(task.heldout_codes, np.full_like(predicted, task.majority), shape)
        return [
            inputs.record(
                _NAME,
                f"{name}_{variant}",
                float(_SCORES[name](table)),
                interval=interval(_SCORES[name](draws)),
                n=len(predicted),
                n_skipped=len(inputs.heldout) - len(predicted),
                skipped_reason=task.left_out,
                params={**settings, **task.facts, "seed": inputs.seed, "resamples": RESAMPLES},
                baselines={"majority": float(_SCORES[name](guess))},
                library=sklearn_version(),
                is_detail=is_detail,
            )
            for name, is_detail in _metrics()
        ]


@dataclass(frozen=True)
class _Task:
    """The cells that take part, with the codes of their labels among ``names``."""

    train: np.ndarray
    heldout: np.ndarray
    train_codes: np.ndarray
    heldout_codes: np.ndarray
    names: np.ndarray
    left_out: str | None
    obstacle: str | None
    facts: dict[str, Any]

    @classmethod
    def of(cls, inputs: BenchmarkInputs, min_class_size: int) -> _Task:
        train, heldout = inputs.train.in_order(), inputs.heldout.in_order()
        train_labels, heldout_labels = (column_of(part, "label", _NAME, inputs) for part in (train, heldout))
        both = np.concatenate([train_labels, heldout_labels])
        found, sizes = np.unique(both[both != ""], return_counts=True)
        if len(found) == 0:
            msg = f"benchmark '{_NAME}': none of the {len(both):,} cells of '{inputs.dataset}' has a label."
            raise DataError(msg)
        names, small = found[sizes >= min_class_size], found[sizes < min_class_size]
        keep_train, keep_heldout = np.isin(train_labels, names), np.isin(heldout_labels, names)
        train_codes = np.searchsorted(names, train_labels[keep_train])
        heldout_codes = np.searchsorted(names, heldout_labels[keep_heldout])
        unseen = np.setdiff1d(heldout_codes, train_codes)
        obstacle = _obstacle(train_codes, heldout_codes, names)
        kept = train.select(keep_train)
        if obstacle is None and kept.is_constant:
            obstacle = "all training cells have the same embedding"
        return cls(
            train=kept.embeddings.astype(np.float64),
            heldout=heldout.embeddings[keep_heldout].astype(np.float64),
            train_codes=train_codes,
            heldout_codes=heldout_codes,
            names=names,
            left_out=_left_out(heldout_labels, small, min_class_size),
            obstacle=obstacle,
            facts={
                "num_train": len(train_codes),
                "num_labels": len(names),
                "min_class_size": min_class_size,
                "labels_left_out": [str(name) for name in small],
                "unseen_labels": [str(name) for name in names[unseen]],
                "num_unseen": int(np.isin(heldout_codes, unseen).sum()),
            },
        )

    @property
    def majority(self) -> int:
        """Code of the label most training cells have."""
        return int(np.bincount(self.train_codes).argmax())


def _metrics() -> list[tuple[str, bool]]:
    return [(name, name not in _HEADLINES) for name in _SCORES]


def _obstacle(train_codes: np.ndarray, heldout_codes: np.ndarray, names: np.ndarray) -> str | None:
    for part, codes in (("training", train_codes), ("held-out", heldout_codes)):
        found = np.unique(codes)
        if len(found) < 2:
            what = f"only the label '{names[found[0]]}'" if len(found) else "no label with enough cells"
            return f"the {part} cells have {what}; two labels are needed"
    return None


def _left_out(labels: np.ndarray, small: np.ndarray, min_class_size: int) -> str | None:
    reasons = []
    if len(small):
        reasons.append(f"labels with fewer than {min_class_size} cells: {', '.join(small)}")
    if (labels == "").any():
        reasons.append(f"{int((labels == '').sum()):,} cells without a label")
    return "; ".join(reasons) or None


def _linear_probe(task: _Task, *, max_iter: int) -> tuple[np.ndarray, dict[str, Any]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(task.train)
    probe = LogisticRegression(C=1.0, max_iter=max_iter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(scaler.transform(task.train), task.train_codes)
    has_converged = not any(issubclass(each.category, ConvergenceWarning) for each in caught)
    settings = {"scaler": "standard", "C": 1.0, "max_iter": max_iter, "converged": has_converged}
    return probe.predict(scaler.transform(task.heldout)), settings


def _neighbors(task: _Task, *, k: int, distance: str) -> tuple[np.ndarray, dict[str, Any]]:
    from sklearn.neighbors import KNeighborsClassifier

    probe = KNeighborsClassifier(k, metric=distance, algorithm="brute").fit(task.train, task.train_codes)
    return probe.predict(task.heldout), {"k": k, "distance": distance, "weights": "uniform", "scaler": None}
