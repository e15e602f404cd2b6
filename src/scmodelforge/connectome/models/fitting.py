"""Training a model of pairs by the loop that all models are trained by (:func:`scmodelforge.training.loop.fit`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError, RunError
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.metrics import connectivity_metrics
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.pair_batches import PairBatches
from scmodelforge.connectome.models.predicting import predict_pairs
from scmodelforge.connectome.models.settings import DivergedError
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training import _rng
from scmodelforge.training.loop import Run, fit
from scmodelforge.training.objective import Objective
from scmodelforge.training.optim import build_optimizer, build_scheduler
from scmodelforge.training.progress import Status
from scmodelforge.training.setup import make_fabric, resolve_accelerator

__all__ = ["fit_pairs"]

_log = logging.getLogger(__name__)

Indices = Sequence[int] | np.ndarray


class PairTraining(nn.Module):
    """A model beside the regions of its data set, as the loop sees it: pairs go in, the loss comes out.

    Parameters
    ----------
    model
        The model.
    dataset
        Its data set, whose expression goes to the device once.
    """

    expression: torch.Tensor
    places: torch.Tensor | None
    terms_apart = frozenset({"symmetry"})
    """No epoch is chosen by what only smooths."""

    def __init__(self, model: ConnectomeModel, dataset: RegionPairDataset) -> None:
        super().__init__()
        self.model = model
        self.weight = 0.0 if model.is_symmetric else model.training_settings.lambda_sym
        self.register_buffer("expression", dataset.X, persistent=False)
        self.register_buffer("places", dataset.coords, persistent=False)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms of the loss."""
        return ("mse", "symmetry") if self.weight else ("mse",)

    def forward(self, pairs: torch.Tensor, targets: torch.Tensor) -> ModelOutput:
        """Return the mean squared error of pairs and, if asked for, that between them and their mirror images."""
        both = torch.cat([pairs, pairs.flip(1)]) if self.weight else pairs
        found = self.model.score_pairs(self.expression, self.places, both).float()
        terms = {"mse": (found[: len(pairs)] - targets).square().mean()}
        if self.weight:
            terms["symmetry"] = self.weight * (found[: len(pairs)] - found[len(pairs) :]).square().mean()
        return ModelOutput(loss_terms=terms)


class _History:
    """The losses of each epoch, and the weights of the best one, as a callback of the loop and where it writes."""

    def __init__(
        self,
        model: ConnectomeModel,
        dataset: RegionPairDataset,
        test: np.ndarray,
        *,
        chooses: bool,
        verbose: bool | Callable[[str], None],
    ) -> None:
        self._model, self._dataset, self._test = model, dataset, test
        self._say = verbose if callable(verbose) else _log.info if verbose else None
        self._targets = dataset.targets(test)
        self._chooses, self._best = chooses, np.inf
        self._kept: dict[str, torch.Tensor] = {}
        self._sum, self._pairs, self._seen = 0.0, 0, 0
        self.values: dict[str, list[float]] = {"train_loss": [], "test_loss": [], "test_corr": []}
        if chooses:
            self.values["val_loss"] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take what the loop records."""
        if "train/mse" in values:
            pairs = int(values["cells"]) - self._seen  # the loop counts items as cells
            self._seen += pairs
            self._sum, self._pairs = self._sum + values["train/mse"] * pairs, self._pairs + pairs

    def on_epoch_end(self, run: Run) -> None:
        """Follow the test pairs, and keep the weights if they are the best on the validation pairs so far."""
        self.values["train_loss"].append(self._sum / max(1, self._pairs))
        self._sum, self._pairs = 0.0, 0
        loss = corr = np.nan
        if len(self._test):
            found = predict_pairs(self._model, self._dataset, self._test)
            if np.isfinite(found).all():
                scores = connectivity_metrics(self._targets, found)
                loss, corr = scores["mse"], scores["pearson_r"]
        self.values["test_loss"].append(loss)
        self.values["test_corr"].append(corr)
        if self._chooses:
            self._keep_best(run.validation["val/loss"])
        if self._say is not None:
            shown = {name: values for name, values in self.values.items() if len(self._test) or "test" not in name}
            line = "  ".join(f"{name} {numbers[-1]:.4f}" for name, numbers in shown.items())
            self._say(f"epoch {run.progress.epoch}/{run.config.max_epochs}  {line}")

    def on_fit_end(self, run: Run) -> None:
        """Put the best weights back."""
        if self._kept:
            self._model.load_state_dict(self._kept)

    def _keep_best(self, loss: float) -> None:
        self.values["val_loss"].append(loss)
        if loss < self._best:
            self._best = loss
            self._kept = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}


class _Silence:
    """A reporter that says nothing: epochs have a line of their own."""

    def update(self, status: Status) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def fit_pairs(
    model: ConnectomeModel,
    dataset: RegionPairDataset,
    train_indices: Indices,
    test_indices: Indices,
    val_indices: Indices | None = None,
    *,
    verbose: bool | Callable[[str], None] = True,
) -> dict[str, list[float]]:
    """Train a model; arguments are those of :meth:`ConnectomeModel.fit`, and what is returned and raised too."""
    model.take_genes(dataset)
    settings = model.training_settings
    if settings.lambda_sym and dataset.is_directed:
        msg = "lambda_sym draws a pair and its mirror image together, and Y has a direction; set it to 0."
        raise ConfigError(msg)
    if model.is_symmetric and dataset.is_directed:
        _log.warning(
            "bidirectional gives a pair and its mirror image the same prediction, and Y has a direction: the mean of "
            "both is learned. Set it to False to tell them apart."
        )
    train = _checked(model, dataset, train_indices, "train_indices", least=2)
    test = _checked(model, dataset, test_indices, "test_indices", whole=True)
    val = None if val_indices is None else _checked(model, dataset, val_indices, "val_indices", least=1)
    _warn_of_overlap(train, test)
    regions = np.unique(dataset.pairs(train))
    model.fit_inputs(dataset.X[regions], None if dataset.coords is None else dataset.coords[regions])
    config = settings.config()
    config.precision = "auto" if resolve_accelerator(config) == "cuda" else "32-true"
    fabric = make_fabric(config)
    with _rng.preserved(fabric.device):
        fabric.launch()
        training = PairTraining(model, dataset)
        batches = [
            None if pairs is None else PairBatches(dataset, pairs, settings.batch_size, settings.seed, training.terms)
            for pairs in (train, val)
        ]
        assert batches[0] is not None
        objective = Objective(training)
        objective, optimizer = fabric.setup(objective, build_optimizer(objective, config.optimizer))
        total = config.max_epochs * batches[0].steps_per_pass
        history = _History(model, dataset, test, chooses=val is not None, verbose=verbose)
        log: Any = history
        run = Run(
            fabric=fabric,
            objective=objective,
            optimizer=optimizer,
            scheduler=build_scheduler(optimizer, config.scheduler, total),
            train_loader=batches[0],
            val_loader=batches[1],
            config=config,
            metrics=log,
            reporter=_Silence(),
        )
        _fit_finite(run, history, model)
    model.eval()
    return history.values


def _fit_finite(run: Run, history: _History, model: ConnectomeModel) -> None:
    """Train, and say in the words of these models where that left the finite numbers."""
    why = "its weights are not finite"
    try:
        fit(run, [history])
    except RunError as problem:
        if not run.guards.skipped_in_a_row:  # memory, or what else is no fault of the settings
            raise
        why = str(problem).partition(";")[0]
    else:
        if all(bool(each.isfinite().all()) for each in model.parameters()):
            return
    raise DivergedError(why)


def _checked(
    model: ConnectomeModel,
    dataset: RegionPairDataset,
    indices: Indices,
    name: str,
    *,
    least: int = 0,
    whole: bool = False,
) -> np.ndarray:
    """Return numbers of pairs, one of a pair and its mirror image where the model and Y do not tell them apart."""
    try:
        found = np.asarray(indices, dtype=np.int64).reshape(-1)
        dataset.pairs(found)
    except (IndexError, TypeError, ValueError) as problem:
        msg = f"{name}: {problem} Numbers of pairs of the data set are needed."
        raise ConfigError(msg) from problem
    if not whole and model.is_symmetric and not dataset.is_directed:
        found = np.unique(found // 2) * 2
    if len(found) < least:
        msg = f"{name} has {len(found)} pairs that the model tells apart; at least {least} are needed."
        raise ConfigError(msg)
    return found


def _warn_of_overlap(train: np.ndarray, test: np.ndarray) -> None:
    shared = np.intersect1d(train // 2, test // 2).size
    if shared:
        _log.warning(
            f"{shared:,} pairs are both in train_indices and in test_indices, or their mirror images are: what is told "
            "of test pairs is not a score. region_wise_split keeps them apart."
        )
