"""Regression: a head tells numbers of each cell, such as an age, a dose or a score.

Numbers are standardised by the mean and the standard deviation of the training cells, which are saved with the model;
a column is scored on its own scale.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import FinetuneConfig, RunConfig
from scmodelforge.data.types import Panel
from scmodelforge.eval.regression import ridge_on_components, score_numbers
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.cells import held_out_groups
from scmodelforge.finetuning.predictions import Naming
from scmodelforge.hub.bundle import Bundle
from scmodelforge.models.fine_tuned_config import CellHeadConfig, FineTunedConfig
from scmodelforge.models.fine_tuned_heads import CellHead, Seen, register_head

if TYPE_CHECKING:
    from scmodelforge.eval.base import Record
    from scmodelforge.finetuning.cells import TaskCells, TrainedCells
    from scmodelforge.objectives.base import Collator
    from scmodelforge.objectives.regression import Regression

__all__ = ["NumberPredictor", "RegressionTask", "ValuesHead", "ValuesHeadConfig"]

_log = logging.getLogger(__name__)


class ValuesHeadConfig(CellHeadConfig):
    """Settings of a head that tells numbers of a cell."""

    objective: ClassVar[str] = "regression"
    filled: ClassVar[dict[str, str]] = {
        "columns": "finetune.targets", "means": "the training cells", "sds": "the training cells"
    }  # fmt: skip

    kind: Literal["values"] = "values"
    """What the head predicts. Its other settings are those of this kind."""
    loss: Literal["squared", "huber"] = "squared"
    """What is minimised: the squared error of standardised numbers, or Huber's, which grows linearly beyond 1."""
    columns: list[str] = Field(default_factory=list)
    """obs columns that the numbers are from; filled in from ``finetune.targets``."""
    means: list[float] | None = None
    """Mean of each over training cells; filled in when a run starts."""
    sds: list[float] | None = None
    """Standard deviation of each over training cells; filled in when a run starts."""


class RegressionConfig(FinetuneConfig):
    """Settings of regression."""

    targets: list[str] = Field(default_factory=list)
    """obs columns with the numbers; a cell with none in a column is no target of it."""
    head: ValuesHeadConfig = Field(default_factory=ValuesHeadConfig)
    """The head."""


@register_head("values")
class ValuesHead(CellHead):
    """Standardised numbers of a cell.

    Parameters
    ----------
    config
        Settings of the model around it.
    width
        Width of what it reads.
    dropout
        Dropout where the settings name none.
    """

    config_class: ClassVar[type[HeadConfig]] = ValuesHeadConfig
    labels: ClassVar[tuple[str, ...]] = ("cell_values",)

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        own = config.head
        assert isinstance(own, ValuesHeadConfig)
        if not own.columns:
            msg = "model.head.columns names no column that numbers are of; name them."
            raise ConfigError(msg)
        super().__init__(own, width=width, dropout=dropout, num_scores=len(own.columns))
        self._is_huber = own.loss == "huber"

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return ``values``, the mean error over all numbers that are known, 0 without any.

        The squared error is twice Huber's for errors below 1.
        """
        truth = labels["cell_values"]
        is_known = torch.isfinite(truth)
        found = scores.to(torch.promote_types(scores.dtype, torch.float32))
        # no NaN may be computed with: its gradient would be NaN even where nothing is made of it
        truth = torch.where(is_known, truth, 0).to(found.dtype)
        measure = nn.functional.huber_loss if self._is_huber else nn.functional.mse_loss
        errors = torch.where(is_known, measure(found, truth, reduction="none"), 0)
        return {"values": errors.sum() / is_known.sum().clamp(min=1)}


@register_task("regression")
class RegressionTask(HeadTask):
    """Learns the numbers of some obs columns."""

    config_class: ClassVar[type[FinetuneConfig]] = RegressionConfig
    head_kind: ClassVar[str | None] = "values"
    command: ClassVar[str] = "predict YOUR.h5ad numbers.h5ad"

    config: RegressionConfig

    def check(self, config: RunConfig) -> None:
        """Refuse a run without columns, or with one named twice.

        Raises
        ------
        ConfigError
            If it is so.
        """
        names = self.config.targets
        if not names or len(set(names)) < len(names):
            seen = f"names {', '.join(names)}" if names else "is not set"
            msg = f"finetune.targets {seen}; task 'regression' needs obs columns with numbers, each once."
            raise ConfigError(msg)

    def head(self) -> ValuesHeadConfig:
        """Return settings of the head."""
        return self.config.head.model_copy(update={"columns": list(self.config.targets)})

    def prepare(self, config: RunConfig, data: TaskCells) -> None:
        """Write means and standard deviations of the training cells into the head's settings.

        Raises
        ------
        DataError
            If a column is not there, holds no numbers, or training cells have fewer than two different ones.
        """
        numbers = _numbers(data, self.config.targets)
        train = numbers[data.split.train]
        for column, values in zip(self.config.targets, train.T, strict=True):
            known = values[np.isfinite(values)]
            if len(np.unique(known)) < 2:
                msg = (
                    f"the training cells have {len(np.unique(known))} different number(s) in obs column '{column}' "
                    "(finetune.targets), from which nothing can be learned; name a column with two or more."
                )
                raise DataError(msg)
            missing = int((~np.isfinite(numbers[:, self.config.targets.index(column)])).sum())
            if missing:
                _log.info(f"obs column '{column}': {missing:,} of {len(numbers):,} cells have no number and no target")
        head: Any = config.model.head  # type: ignore[attr-defined]
        head.means = [float(mean) for mean in np.nanmean(train, axis=0)]
        head.sds = [float(sd) for sd in np.nanstd(train, axis=0)]

    def objective(self, made: Collator, config: RunConfig, data: TaskCells) -> Collator:
        """Return the objective with the numbers of all cells."""
        head: Any = config.model.head  # type: ignore[attr-defined]
        filled: Regression = made  # type: ignore[assignment]
        filled.numbers = (_numbers(data, head.columns) - np.array(head.means)) / np.array(head.sds)
        return made

    @classmethod
    def predictor(cls, bundle: Bundle, naming: Naming) -> NumberPredictor:
        """Return what tells the numbers of cells; nothing is unknown among them."""
        for name in ("min_confidence", "unknown"):
            if getattr(naming, name) != getattr(Naming(), name):
                msg = f"predict.{name} has no effect with a model that learned numbers; leave it out."
                raise ConfigError(msg)
        return NumberPredictor(bundle.model, bundle.model_config.head)  # type: ignore[attr-defined]

    def score(self, trained: TrainedCells) -> list[Record]:
        """Score the numbers of held-out cells beside the training mean and a ridge regression on PCA.

        Intervals are by resampling cells, and whole groups where the split is of groups.
        """
        predictor = self.predictor(trained.bundle, Naming())
        numbers, split = _numbers(trained.data, predictor.names), trained.data.split
        if not len(split.validation):
            return []
        chosen = np.concatenate([split.train, split.validation])
        counts = trained.counts(chosen)
        found = {
            "model": predictor.on_scale(trained.predicted(predictor, split.validation)),
            "training_mean": np.tile(np.nanmean(numbers[split.train], axis=0), (len(split.validation), 1)),
            "ridge_pca": ridge_on_components(counts, numbers[split.train], seed=trained.seed),
        }
        truth, records = numbers[split.validation], []
        groups = held_out_groups(trained.data)
        for column, name in enumerate(predictor.names):
            of_column = {key: rows[:, column] for key, rows in found.items()}
            records += score_numbers(
                name,
                truth[:, column],
                of_column,
                trained.record,
                groups=groups,
                group_key=split.by if groups is not None else None,
                seed=trained.seed,
            )
        return records


class NumberPredictor(nn.Module):
    """Tells the numbers of cells on their own scale: columns named as those that they were learned from.

    Parameters
    ----------
    model
        Has ``score(**batch) -> (B, T)``.
    config
        Settings of its head.
    """

    table: Literal["obs", "var"] = "obs"
    key = "values"

    def __init__(self, model: nn.Module, config: ValuesHeadConfig) -> None:
        super().__init__()
        if config.means is None or config.sds is None:
            msg = "model.head.means is not set, so this model does not know its scale; train it by 'finetune'."
            raise ConfigError(msg)
        self.model, self.names = model, list(config.columns)
        self._means, self._sds = np.array(config.means), np.array(config.sds)
        self.facts: dict[str, Any] = {"columns": ", ".join(self.names)}

    def encode(self, **batch: Any) -> torch.Tensor:
        """Return standardised numbers, shape (B, T)."""
        found: torch.Tensor = self.model.score(**batch).float()  # type: ignore[operator]
        return found

    def on_scale(self, rows: np.ndarray) -> np.ndarray:
        """Return standardised numbers, shape (N, T), on the scale of their columns."""
        return rows.astype(np.float64) * self._sds + self._means

    def columns(self, rows: np.ndarray, panel: Panel) -> dict[str, Any]:
        """Return a column of numbers, float32, for each that the model learned; NaN for cells without known genes."""
        return {name: values.astype(np.float32) for name, values in zip(self.names, self.on_scale(rows).T, strict=True)}

    def told(self, columns: dict[str, Any]) -> str:
        """Return of how many cells numbers are told."""
        first = columns[self.names[0]]
        return f"numbers of {int(np.isfinite(first).sum()):,} of {len(first):,} cells"


def _numbers(data: TaskCells, columns: list[str]) -> np.ndarray:
    """Return the numbers of all cells, shape (N, T), float64, NaN where there is none.

    Raises
    ------
    DataError
        If a column is not there or holds no numbers.
    """
    return np.column_stack([_column(data, name) for name in columns])


def _column(data: TaskCells, name: str) -> np.ndarray:
    source: Any = data.source
    if hasattr(source, "obs_numbers"):
        found = source.obs_numbers(name)
        if found is not None:
            return np.where(np.isfinite(found), found, np.nan)
    codes, categories = source.obs(name)
    try:
        values = [float(category) for category in categories]
    except ValueError:
        wrong = next(category for category in categories if not _is_number(category))
        msg = (
            f"obs column '{name}' (finetune.targets) holds '{wrong}', which is no number; name a column of numbers, or "
            "use task 'cell_type_annotation' for classes."
        )
        raise DataError(msg) from None
    found = np.array([*values, np.nan])[codes]
    return np.where(np.isfinite(found), found, np.nan)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
