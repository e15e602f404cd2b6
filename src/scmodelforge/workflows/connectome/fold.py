"""One fold: the model and the baselines are fitted on the regions of training and scored on those held out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.config.connectome_sections import ConnectomeConfig
from scmodelforge.connectome.baselines import get_baseline
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.metrics import connectivity_metrics
from scmodelforge.connectome.models import ConnectomeModel, get_connectome_model
from scmodelforge.connectome.models.predicting import predict_pairs
from scmodelforge.connectome.models.settings import DivergedError
from scmodelforge.workflows.connectome.inputs import ModelInputs, quiet
from scmodelforge.workflows.connectome.pace import Pace
from scmodelforge.workflows.connectome.plan import Fold, Plan, training_pairs

__all__ = ["FittedModel", "FoldResult", "fit_model", "make_model", "run_fold"]

_log = logging.getLogger(__name__)
_USES = {"nothing": "nothing", "genes": "genes", "coords": "coordinates", "both": "both"}


@dataclass(frozen=True)
class FittedModel:
    """A model, what it reads of a data set, that data set as it reads it, and how its training went."""

    model: ConnectomeModel
    inputs: ModelInputs
    data: RegionPairDataset
    history: dict[str, list[float]]

    def predict(self, items: np.ndarray) -> np.ndarray:
        """Return the predicted connectivity of some pairs, of regions of training or not, shape (n,), float64."""
        return predict_pairs(self.model, self.data, items).astype(np.float64)


@dataclass(frozen=True)
class FoldResult:
    """Scores of a fold, a row for each predictor, and what the model predicts for its inner pairs."""

    rows: list[dict[str, Any]]
    predicted: np.ndarray | None
    facts: dict[str, Any]


def make_model(config: ConnectomeConfig, data: RegionPairDataset, seed: int) -> ConnectomeModel:
    """Return the model that the settings name, for the genes of a data set."""
    own = config.model.model_dump(exclude={"name"})
    training = config.training.model_dump(exclude={"validation_share"})
    model: Any = get_connectome_model(config.model.name)
    made: ConnectomeModel = model(2 * data.num_genes, data, **own, **training, seed=seed)
    return made


def fit_model(
    config: ConnectomeConfig,
    data: RegionPairDataset,
    regions: np.ndarray,
    seed: int,
    *,
    say: Callable[[str], None] | None = None,
) -> FittedModel:
    """Train a model on the pairs of some regions; nothing of the others reaches it.

    Parameters
    ----------
    config
        Settings.
    data
        Pairs of regions.
    regions
        Rows to train on; some of them choose the epoch.
    seed
        Base of weights, dropout, order and validation regions.
    say
        What takes a line for each epoch.

    Raises
    ------
    DivergedError
        If training leaves the finite numbers.
    """
    with quiet():
        inputs = ModelInputs.fitted(data, regions, config.data.max_genes)
        taken = inputs.apply(data)
        pairs = training_pairs(data, regions, config, seed)
        model = make_model(config, taken, seed)
        history = model.fit(taken, pairs.train, [], verbose=say or False, val_indices=pairs.validation)
    return FittedModel(model, inputs, taken, history)


def run_fold(plan: Plan, fold: Fold, *, with_model: bool = True) -> FoldResult:
    """Fit and score all predictors of a run on one fold.

    A model that diverges has a row without scores: the others of the fold are kept, and no mean is over fewer folds
    unsaid.
    """
    data, split, rows = plan.data, fold.split, []
    predicted: np.ndarray | None = None
    facts: dict[str, Any] = {}
    pace = Pace(f"seed {fold.seed}, {split.name}")
    if with_model:
        row, predicted, facts = _model_row(plan, fold, pace)
        rows.append(row)
    for number, name in enumerate(plan.baselines, start=1):
        baseline = get_baseline(name, seed=fold.seed, strategy=split.strategy).fit(data, split.train)
        found = [baseline.predict(data, items) for items in (split.inner, split.cross)]
        rows.append(_row({"name": name, "kind": "baseline", "uses": _USES[baseline.inputs]}, data, fold, *found))
        pace.say(f"{number} of {len(plan.baselines)} baselines done, {name} the last")
    return FoldResult(rows, predicted, facts)


def _model_row(plan: Plan, fold: Fold, pace: Pace) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    """Return the scores of the model, what it predicts for the inner pairs, and how its training went."""
    split, name = fold.split, plan.config.model.name
    began = time.perf_counter()
    inner, cross = np.full(len(split.inner), np.nan), np.full(len(split.cross), np.nan)
    history: dict[str, list[float | None]] = {}
    try:
        fitted = fit_model(
            plan.config, plan.data, split.train_regions, fold.seed, say=lambda line: pace.say(f"{name} {line}")
        )
    except DivergedError as problem:
        _warn_diverged(plan, fold, problem.why)
        with quiet():
            needs_coords = make_model(plan.config, plan.data, fold.seed).needs_coords
    else:
        needs_coords = fitted.model.needs_coords
        history = {key: [_or_none(each) for each in values] for key, values in fitted.history.items()}
        found = fitted.predict(split.inner), fitted.predict(split.cross)
        if all(np.isfinite(each).all() for each in found):
            inner, cross = found
        else:
            _warn_diverged(plan, fold, "its predictions are not finite")
    pace.say(f"{name} done")
    of_model = {"name": name, "kind": "model", "uses": "both" if needs_coords else "genes"}
    facts = {"history": history, "seconds": time.perf_counter() - began}
    return _row(of_model, plan.data, fold, inner, cross), inner, facts


def _warn_diverged(plan: Plan, fold: Fold, why: str) -> None:
    rate = plan.config.training.learning_rate
    _log.warning(
        f"seed {fold.seed}, {fold.split.name}: {plan.config.model.name} diverged ({why}) and has no scores there. "
        f"Start a new run with a lower training.learning_rate than {rate:g}, or with training.cosine_lr=true, whose "
        "rate rises slowly."
    )


def _row(
    of: dict[str, str], data: RegionPairDataset, fold: Fold, inner: np.ndarray, cross: np.ndarray
) -> dict[str, Any]:
    parts = {"inner": (fold.split.inner, inner), "cross": (fold.split.cross, cross)}
    scores = {name: _scores(data.targets(items), found) for name, (items, found) in parts.items()}
    num_pairs = len(fold.split.inner) // (1 if data.is_directed else 2)
    where = {"seed": fold.seed, "fold": fold.number, "fold_name": fold.split.name, "num_pairs": num_pairs}
    return {**of, **where, **scores}


def _scores(targets: np.ndarray, found: np.ndarray) -> dict[str, float | None]:
    """Return the scores of some pairs; none of predictions that are not finite."""
    if not np.isfinite(found).all():
        return dict.fromkeys(connectivity_metrics(targets, targets))
    return {name: _or_none(value) for name, value in connectivity_metrics(targets, found).items()}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
