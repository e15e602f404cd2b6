"""One fold: the model and the baselines are fitted on the regions of training and scored on those held out."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.config.connectome_sections import ConnectomeConfig
from scmodelforge.connectome.baselines import get_baseline
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.metrics import connectivity_metrics
from scmodelforge.connectome.models import ConnectomeModel, get_connectome_model
from scmodelforge.connectome.models.predicting import predict_pairs
from scmodelforge.workflows.connectome.inputs import ModelInputs, quiet
from scmodelforge.workflows.connectome.plan import Fold, Plan, training_pairs

__all__ = ["FittedModel", "FoldResult", "fit_model", "make_model", "run_fold"]

_log = logging.getLogger(__name__)
_USES = {"nothing": "nothing", "genes": "genes", "coords": "coordinates", "both": "both"}


@dataclass(frozen=True)
class FittedModel:
    """A model, what it reads of a data set, and how its training went."""

    model: ConnectomeModel
    inputs: ModelInputs
    history: dict[str, list[float]]

    def predict(self, data: RegionPairDataset, items: np.ndarray) -> np.ndarray:
        """Return the predicted connectivity of some pairs of a whole data set, shape (n,), float64."""
        with quiet():
            return predict_pairs(self.model, self.inputs.apply(data), items).astype(np.float64)


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


def fit_model(config: ConnectomeConfig, data: RegionPairDataset, regions: np.ndarray, seed: int) -> FittedModel:
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
    """
    with quiet():
        inputs = ModelInputs.fitted(data, regions, config.data.max_genes)
        taken = inputs.apply(data)
        pairs = training_pairs(data, regions, config, seed)
        model = make_model(config, taken, seed)
        history = model.fit(taken, pairs.train, [], verbose=False, val_indices=pairs.validation)
    return FittedModel(model, inputs, history)


def run_fold(plan: Plan, fold: Fold, *, with_model: bool = True) -> FoldResult:
    """Fit and score all predictors of a run on one fold."""
    data, split, rows = plan.data, fold.split, []
    predicted, facts = None, {}
    began = time.perf_counter()
    if with_model:
        fitted = fit_model(plan.config, data, split.train_regions, fold.seed)
        predicted = fitted.predict(data, split.inner)
        uses = "both" if fitted.model.needs_coords else "genes"
        of_model = {"name": plan.config.model.name, "kind": "model", "uses": uses}
        rows.append(_row(of_model, data, fold, predicted, fitted.predict(data, split.cross)))
        history = {
            name: [each if math.isfinite(each) else None for each in values] for name, values in fitted.history.items()
        }
        facts = {"history": history, "seconds": time.perf_counter() - began}
    for name in plan.baselines:
        baseline = get_baseline(name, seed=fold.seed, strategy=split.strategy).fit(data, split.train)
        found = [baseline.predict(data, items) for items in (split.inner, split.cross)]
        rows.append(_row({"name": name, "kind": "baseline", "uses": _USES[baseline.inputs]}, data, fold, *found))
    return FoldResult(rows, predicted, facts)


def _row(
    of: dict[str, str], data: RegionPairDataset, fold: Fold, inner: np.ndarray, cross: np.ndarray
) -> dict[str, Any]:
    parts = {"inner": (fold.split.inner, inner), "cross": (fold.split.cross, cross)}
    scores = {name: _finite(connectivity_metrics(data.targets(items), found)) for name, (items, found) in parts.items()}
    return {**of, "seed": fold.seed, "fold": fold.number, "fold_name": fold.split.name, **scores}


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}
