"""Perturbation prediction: how a perturbation changes the expression of control cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.config.schema import FinetuneConfig, ModelConfig, RunConfig
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.selection import filtered_out
from scmodelforge.data.splits import CellSplit
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.splits import PerturbationSplit, fold_perturbations
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.held_out import TaskFolds
from scmodelforge.finetuning.perturbation.examples import Learned, learn
from scmodelforge.finetuning.perturbation.expression import Expression, open_expression
from scmodelforge.finetuning.perturbation.head import PerturbationHead, PerturbationHeadConfig, gene_table
from scmodelforge.finetuning.perturbation.hold_out import split_screen
from scmodelforge.finetuning.perturbation.objective import PerturbationObjective
from scmodelforge.finetuning.perturbation.screen import (
    Screen,
    find_columns,
    read_screen,
    tokens_of,
    without,
)
from scmodelforge.models.fine_tuned import FineTuneModel

__all__ = ["PerturbationPredictionTask", "PerturbationPredictionTaskConfig"]


class PerturbationPredictionTaskConfig(FinetuneConfig):
    """Settings of perturbation prediction."""

    head: PerturbationHeadConfig = Field(default_factory=PerturbationHeadConfig)
    """The head."""
    condition_column: str | None = None
    """obs column of the perturbation (``A``, ``A+B``, guides ...); ``None`` finds one by its name."""
    control: str | None = None
    """Its value that means control; ``None`` finds it."""
    covariate_column: str | None = None
    """obs column, such as the cell type, in which a perturbation is one of its own; controls are of the same value."""
    dose_column: str | None = None
    """obs column with the dose, a number."""
    hold_out: Literal["unseen", "combination", "transfer"] | None = None
    """Which perturbations are held out: all of some genes (``unseen``, the default), some combinations, or some
    perturbations in one covariate each. Half of them choose the model, half are scored at the end."""
    held_out: float = Field(0.3, gt=0, lt=1)
    """Share of genes, combinations or perturbations that is held out."""
    split_seed: int = Field(0, ge=0)
    """Seed of the choice."""
    conditions_file: str | None = None
    """File of a split, or of training conditions, in place of a choice."""
    unknown_genes: Literal["refuse", "drop"] = "refuse"
    """What is done about perturbed genes that the base model has no token of: ``drop`` leaves their perturbations
    out."""


@register_task("perturbation_prediction")
class PerturbationPredictionTask(HeadTask):
    """Learns the mean change of expression by each perturbation, and predicts those by others."""

    config_class: ClassVar[type[FinetuneConfig]] = PerturbationPredictionTaskConfig
    benchmarks: ClassVar[tuple[str, ...]] = ("perturbation_prediction",)
    held_out: ClassVar[str] = "perturbations"
    command: ClassVar[str] = "predict CONTROLS.h5ad predicted.h5ad"

    config: PerturbationPredictionTaskConfig

    def __init__(self, config: FinetuneConfig, base: Any) -> None:
        super().__init__(config, base)
        self.screen: Screen | None = None
        self.split: PerturbationSplit | None = None
        self.expression: Expression | None = None
        self.learned: Learned | None = None
        self._sets: list[list[int]] = []

    def check(self, config: RunConfig) -> None:
        """Refuse settings that contradict each other, or that the task has no use for.

        Raises
        ------
        ConfigError
            If there are some.
        """
        own = self.config
        if own.conditions_file is not None and own.hold_out is not None:
            msg = "finetune.conditions_file and finetune.hold_out both say what is held out; keep one of them."
            raise ConfigError(msg)
        others = {name: type(own).model_fields[name].default for name in ("held_out", "split_seed")}
        fixed = [name for name, default in others.items() if getattr(own, name) != default]
        if own.conditions_file is not None and fixed:
            msg = f"finetune.{fixed[0]} has no effect beside finetune.conditions_file; leave it out."
            raise ConfigError(msg)
        if own.hold_out == "transfer" and own.covariate_column is None:
            msg = "finetune.hold_out is 'transfer', between covariates; name their column in finetune.covariate_column."
            raise ConfigError(msg)
        if config.training.strategy == "fsdp":
            msg = "training.strategy 'fsdp' cannot predict perturbations; set it to 'auto' or 'ddp'."
            raise ConfigError(msg)
        source: Any = self.base.model
        gene_table(source.backbone if isinstance(source, FineTuneModel) else source)

    def head(self) -> PerturbationHeadConfig:
        """Return settings of the head."""
        return self.config.head

    def choose_cells(self, config: RunConfig, source: CellSource, split: CellSplit) -> CellSplit:
        """Read what was done to the cells, hold out perturbations, and return the split's control cells.

        Raises
        ------
        ConfigError, DataError
            If the data are of no such kind, or genes are perturbed that the model does not know.
        """
        self._read(config, source)
        assert self.screen is not None
        controls = self.screen.controls
        found = replace(
            split,
            train=np.intersect1d(split.train, controls),
            validation=np.intersect1d(split.validation, controls),
        )
        if not len(found.train):
            msg = "no control cell is left to train on; change data.filter or data.split."
            raise DataError(msg)
        return found

    def folds(self, config: RunConfig, source: CellSource, *, number: int, folder: Path) -> TaskFolds:
        """Return folds of the perturbations, each in a file as :meth:`write` writes it.

        Raises
        ------
        ConfigError, DataError
            If a file says what is held out, or there are too few perturbations.
        """
        own = self.config
        if own.conditions_file is not None:
            msg = "finetune.conditions_file and --folds both say what is held out; keep one of them."
            raise ConfigError(msg)
        self._read(config, source)
        assert self.screen is not None
        kind = own.hold_out or "unseen"
        parts: list[dict[str, Any]] = []
        for split in fold_perturbations(
            self.screen.groups, kind, folds=number, seed=own.split_seed, held_out=own.held_out
        ):
            file = (folder / f"perturbations_{len(parts) + 1}.json").absolute()
            split.write(file)
            parts.append({"finetune.conditions_file": str(file), "finetune.hold_out": None})
        settings = ("hold_out", "held_out", "split_seed", "conditions_file")
        return TaskFolds(self.held_out, "other held-out perturbations than those that are scored", settings, parts)

    def also_trained(self, config: RunConfig, source: CellSource) -> np.ndarray:
        """Return the cells of training and validation conditions."""
        assert self.split is not None
        return self._cells_of({*self.split.train, *self.split.validation})

    def also_scored(self, config: RunConfig, source: CellSource) -> np.ndarray:
        """Return the cells of test conditions."""
        assert self.split is not None
        return self._cells_of(set(self.split.test))

    def read(self, config: RunConfig, data: Any, *, reopen: Callable[[Any], CellSource]) -> None:
        """Average training and validation conditions, and fit the regression."""
        if self.screen is None:
            self._read(config, data.source)
        assert self.screen is not None
        assert self.split is not None
        may_differ = config.data.source == "local" and getattr(config.data, "layer", None) is None
        stored = reopen(config.data.model_copy(update={"layer": "X"})) if may_differ else None
        self.expression = open_expression(data.source, data.vocab, stored=stored)
        self.learned = learn(
            self.screen,
            self.split,
            self.expression,
            self._sets,
            gene_embeddings=_embeddings(self.base.model),
            held_out_cells=data.split.validation,
        )
        head: Any = config.model.head  # type: ignore[attr-defined]
        head.num_genes, head.num_known = len(self.expression.tokens), len(self.learned.known)
        head.num_covariates, head.num_vectors = len(self.screen.covariates), self.learned.vectors.shape[1]
        head.has_dose = self.screen.doses is not None

    def objective(self, made: Any, config: RunConfig, data: Any) -> Any:
        """Give the objective the answers."""
        if isinstance(made, PerturbationObjective) and self.learned is not None:
            made.examples = self.learned.examples
        return made

    def fresh(self, config: ModelConfig) -> nn.Module:
        """Return a model that predicts what the regression does."""
        model: Any = super().fresh(config)
        learned, expression = self.learned, self.expression
        if learned is None or expression is None:  # its embeddings alone are asked for, after the run
            return cast(nn.Module, model)
        head: PerturbationHead = model.head
        with torch.no_grad():
            for name, values in {
                "output_tokens": expression.tokens,
                "known_tokens": learned.known,
                "weights": learned.ridge.weights,
                "vectors": learned.vectors,
                "scale": np.array(learned.scale),
                "own": np.array(learned.own),
                "trust": np.array(learned.trust),
                "controls": learned.controls,
            }.items():
                getattr(head, name).copy_(torch.as_tensor(values))
        return cast(nn.Module, model)

    def facts(self) -> dict[str, Any]:
        """Return what a model's folder says of what it predicts (``labels.json``, under ``perturbations``)."""
        screen, split, expression, learned = self.screen, self.split, self.expression, self.learned
        assert screen is not None
        assert split is not None
        assert expression is not None
        assert learned is not None
        return {
            "perturbations": {
                "condition_column": screen.columns.condition,
                "control": screen.columns.control,
                "controls": list(screen.control_names),
                "covariate_column": screen.columns.covariate,
                "dose_column": screen.columns.dose,
                "dose_scale": list(learned.dose_scale),
                "doses": [[*group, screen.doses_of(place)] for place, group in enumerate(screen.groups)],
                "covariates": list(screen.covariates),
                "genes": list(expression.genes),
                "expression": expression.describe(),
                "regression": learned.ridge.choice,
                "split": split.to_dict(),
            }
        }

    def write(self, folder: Path) -> None:
        """Write the split of the perturbations to ``perturbations.json``, as ``--train-conditions`` reads it."""
        assert self.split is not None
        self.split.write(folder / "perturbations.json")

    def _cells_of(self, groups: set[Group]) -> np.ndarray:
        assert self.screen is not None
        chosen = [place for place, group in enumerate(self.screen.groups) if group in groups]
        return np.flatnonzero(np.isin(self.screen.codes, chosen))

    def _read(self, config: RunConfig, source: CellSource) -> None:
        own = self.config
        columns = find_columns(
            source,
            condition=own.condition_column,
            control=own.control,
            covariate=own.covariate_column,
            dose=own.dose_column,
        )
        screen = read_screen(source, columns, filtered_out(source, config.data.filter))
        unknown = tokens_of(screen.groups, self.base.vocab)[1]
        if unknown and own.unknown_genes == "refuse":
            msg = (
                f"{len(unknown)} perturbed gene(s) are not in the model's vocabulary: {listed(unknown, 10)}; set "
                "finetune.unknown_genes to 'drop' to leave their perturbations out, or take a base model that knows "
                "them."
            )
            raise DataError(msg)
        every = screen.groups
        if unknown:
            screen = without(screen, unknown)
        self.screen, self._sets = screen, tokens_of(screen.groups, self.base.vocab)[0]
        self.split = split_screen(
            screen,
            own.hold_out,
            file=own.conditions_file,
            held_out=own.held_out,
            seed=own.split_seed,
            dropped=every,
        )


def _embeddings(model: Any) -> np.ndarray:
    """Return a model's embedding of each token, shape (V, H)."""
    backbone = model.backbone if isinstance(model, FineTuneModel) else model
    number = model.vocab_size if hasattr(model, "vocab_size") else model.config.vocab_size
    device = next(backbone.parameters()).device
    with torch.no_grad():
        found: np.ndarray = gene_table(backbone)(torch.arange(number, device=device)).float().cpu().numpy()
    return found
