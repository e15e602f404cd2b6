"""Cell type annotation: a head names the type of each cell."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scmodelforge._errors import ConfigError, listed
from scmodelforge.config.schema import FinetuneConfig, RunConfig
from scmodelforge.data.types import Panel
from scmodelforge.eval.annotation.label_head import LabelHead
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.no_harm import gain_notes
from scmodelforge.finetuning.predictions import Naming, warn_of_unknown
from scmodelforge.finetuning.weak_head import weak_head_notes
from scmodelforge.hub.bundle import Bundle
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig

if TYPE_CHECKING:
    from scmodelforge.eval.base import Record
    from scmodelforge.finetuning.cells import TaskCells

__all__ = ["CellTypeAnnotationTask", "LabelPredictor", "class_weights"]

_log = logging.getLogger(__name__)


class CellTypeAnnotationTaskConfig(FinetuneConfig):
    """Settings of cell type annotation. The types are those of ``data.label_column``."""

    head: CellTypeHeadConfig = Field(default_factory=CellTypeHeadConfig)
    """The head."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """What a cell counts in the loss by its type: all the same, ``balanced`` (all types together the same), or a
    number for each type; types that are not named have 1. They are scaled so that training cells have a mean of 1."""


@register_task("cell_type_annotation")
class CellTypeAnnotationTask(HeadTask):
    """Learns the types of ``data.label_column`` that training cells have."""

    config_class: ClassVar[type[FinetuneConfig]] = CellTypeAnnotationTaskConfig
    benchmarks: ClassVar[tuple[str, ...]] = ("cell_type_annotation",)
    head_kind: ClassVar[str | None] = "cell_types"
    needs: ClassVar[dict[str, str]] = {"label_column": "types of cells"}
    command: ClassVar[str] = "predict YOUR.h5ad labelled.h5ad"

    config: CellTypeAnnotationTaskConfig

    def head(self) -> CellTypeHeadConfig:
        """Return settings of the head."""
        return self.config.head

    def prepare(self, config: RunConfig, data: TaskCells) -> None:
        """Write the weights of the types into the head's settings, and tell of types that only held-out cells have.

        Raises
        ------
        ConfigError
            If a weight is of a type that no training cell has.
        """
        labels = data.labels["cell_types"]
        warn_of_unknown(labels.categories, f"a type of obs column '{labels.column}'")
        unseen = _unseen(data, labels.column)
        if unseen:
            _log.warning(
                f"{sum(unseen.values()):,} held-out cells are of {len(unseen):,} types in '{labels.column}' that no "
                f"training cell has ({listed(list(unseen), 3)}): they give no validation loss, and count as errors in "
                "scores"
            )
        head: Any = config.model.head  # type: ignore[attr-defined]
        head.class_weights = class_weights(self.config.class_weights, labels.categories, _counts(data))

    def notes(self, records: list[Record]) -> list[str]:
        """Warn of a head that learned less than its input holds, and say where the base model does as well."""
        return [*weak_head_notes(records), *gain_notes(records)]

    @classmethod
    def predictor(cls, bundle: Bundle, naming: Naming) -> LabelPredictor:
        """Return what names cell types."""
        return LabelPredictor(LabelHead(bundle.model, bundle.labels["categories"]), naming, bundle.labels)


class LabelPredictor(LabelHead):
    """Names the type of each cell.

    Columns are ``label``, a pandas Categorical of all labels and the word for unknown cells, and ``confidence``, the
    probability of the likeliest label, float32; NaN for cells without a gene the model knows.

    Parameters
    ----------
    head
        Gives probabilities of labels.
    naming
        When and how a cell is unknown.
    labels
        Where the labels are from, as of :class:`~scmodelforge.hub.bundle.Bundle`.

    Raises
    ------
    ConfigError
        If a label is called as unknown cells are.
    """

    table: Literal["obs", "var"] = "obs"
    key = "label"

    def __init__(self, head: LabelHead, naming: Naming, labels: Mapping[str, Any]) -> None:
        super().__init__(head.model, head.names)
        if naming.unknown in self.names:
            msg = (
                f"'{naming.unknown}' is a cell type of the model; choose another word for unknown cells with "
                "--unknown NAME (tl.predict: unknown=NAME)."
            )
            raise ConfigError(msg)
        self.naming = naming
        self.facts = {
            "min_confidence": float(naming.min_confidence),
            "unknown": naming.unknown,
            "label_column": str(labels.get("column", "")),
        }

    def columns(self, rows: np.ndarray, panel: Panel) -> dict[str, Any]:
        """Return labels and confidences of probabilities, shape (N, C)."""
        import pandas as pd

        is_known = np.isfinite(rows).all(axis=1)
        best = np.where(is_known[:, None], rows, 0).argmax(axis=1)
        confidence = rows[np.arange(len(rows)), best].astype(np.float32)
        is_sure = is_known & (np.nan_to_num(confidence, nan=-1) >= self.naming.min_confidence)
        codes = np.where(is_sure, best, len(self.names))
        names = [*self.names.tolist(), self.naming.unknown]
        return {"label": pd.Categorical.from_codes(codes, categories=names), "confidence": confidence}

    def told(self, columns: dict[str, Any]) -> str:
        """Return how many cells are unknown."""
        label, unknown = columns["label"], self.naming.unknown
        return f"{len(self.names):,} cell types; {int((label == unknown).sum()):,} of {len(label):,} cells {unknown}"


def class_weights(setting: str | Mapping[str, float], categories: list[str], counts: np.ndarray) -> list[float] | None:
    """Return what a cell of each type counts in the loss.

    Parameters
    ----------
    setting
        ``finetune.class_weights``.
    categories
        The types.
    counts
        Training cells of each, shape (C,).

    Returns
    -------
    Weights with a mean of 1 over the training cells, so that the loss is on the scale of the unweighted one; ``None``
    if all are 1. They are constants of the run: the loss of a batch is the sum of weight times cross-entropy over the
    number of its cells, and so the same however cells are put into batches.

    Raises
    ------
    ConfigError
        If a weight is of a type that there is not.
    """
    if setting == "none":
        return None
    if isinstance(setting, str):
        return [float(counts.sum() / (len(counts) * count)) for count in counts]
    unknown = [name for name in setting if name not in categories]
    if unknown:
        msg = (
            f"finetune.class_weights names '{unknown[0]}', which no training cell is; the types are "
            f"{listed(categories, 8)}."
        )
        raise ConfigError(msg)
    weights = np.array([setting.get(name, 1.0) for name in categories])
    return [float(weight) for weight in weights * counts.sum() / (weights * counts).sum()]


def _counts(data: TaskCells) -> np.ndarray:
    labels = data.labels["cell_types"]
    codes = labels.codes[data.split.train]
    return np.bincount(codes[codes >= 0], minlength=len(labels.categories))


def _unseen(data: TaskCells, column: str) -> dict[str, int]:
    """Return the labels that only held-out cells have, with their cells."""
    codes, categories = data.source.obs(column)
    held_out = codes[data.split.validation]
    found = np.setdiff1d(held_out[held_out >= 0], codes[data.split.train])
    return {str(categories[code]): int((held_out == code).sum()) for code in found}
