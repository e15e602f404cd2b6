"""Batches of control cells, each asked for the changes that some perturbations make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import integers, uniforms
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["Answers", "Examples", "PerturbationObjective"]

#: Perturbations that each cell is asked for.
_PER_CELL = 8
#: How often a training condition is asked for as if none of its genes had been perturbed in any other.
_AS_UNSEEN = 0.25


@dataclass(frozen=True)
class Answers:
    """Conditions with the change that they make.

    Attributes
    ----------
    tokens
        Tokens of the perturbed genes, filled up with -1, shape (n, M).
    covariates
        Covariate of each, shape (n,).
    doses
        Standardised logarithm of the dose of each, shape (n,); ``None`` without doses.
    changes
        Mean change from the control of the covariate, shape (n, G), float32.
    without
        What training conditions alone say of each, without it and without all that share a gene with it, shape
        (2, n, G), float32; ``None`` where the model's own regression has not seen them.
    may_know
        Which of its genes those conditions perturb, shape (2, n, M), bool.
    """

    tokens: np.ndarray
    covariates: np.ndarray
    doses: np.ndarray | None
    changes: np.ndarray
    without: np.ndarray | None = None
    may_know: np.ndarray | None = None

    def of_covariate(self, covariate: int) -> np.ndarray:
        """Return the places of a covariate's conditions."""
        return np.flatnonzero(self.covariates == covariate)


@dataclass(frozen=True)
class Examples:
    """What batches are made of beside the tokens of control cells.

    Attributes
    ----------
    train, validation
        Conditions that are trained on, and those that models are chosen by.
    covariates
        Covariate of each cell of the source, shape (N,).
    is_held_out
        Which cells of the source are asked for validation conditions, shape (N,), bool.
    """

    train: Answers
    validation: Answers | None
    covariates: np.ndarray
    is_held_out: np.ndarray


@register_objective("perturbation_prediction")
class PerturbationObjective:
    """Hide nothing of control cells, and ask for the changes by perturbations.

    Each training cell is asked for some training conditions of its covariate, drawn by its key; a held-out cell for
    validation conditions. The answer is the mean change of the condition: of all functions of control cell and
    perturbation it has the least squared error to single perturbed cells, which are paired with control cells by
    nothing but chance, and it has less noise.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config, model_config
        Not used.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("change",)
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id
        self._num_genes = getattr(getattr(model_config, "head", None), "num_genes", 1)
        self.examples: Examples | None = None

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some control cells; without examples, one without targets."""
        batch: Any = pad(tokens, pad_id=self._pad_id)
        if self.examples is None or not len(tokens):
            batch["num_targets"] = {"change": 0}
            batch.update(self._nothing(len(tokens)))
            return cast(Batch, batch)
        batch.update(self._asked(tokens, self.examples))
        batch["num_targets"] = {"change": int(batch["has_change"].sum())}
        return cast(Batch, batch)

    def _nothing(self, num_cells: int) -> dict[str, torch.Tensor]:
        return {
            "perturbed": torch.full((num_cells, 1, 1), -1),
            "covariate": torch.zeros(num_cells, dtype=torch.int64),
            "changes": torch.zeros(num_cells, 1, self._num_genes),
            "has_change": torch.zeros(num_cells, 1),
        }

    def _asked(self, tokens: TokenBlock, examples: Examples) -> dict[str, torch.Tensor]:
        cells = tokens.cell_index
        covariates = examples.covariates[cells]
        held_out = examples.is_held_out[cells]
        is_validation = bool(held_out.all()) and examples.validation is not None
        answers = examples.validation if is_validation else examples.train
        assert answers is not None
        places, is_there = _drawn(answers, covariates, tokens.keys)
        is_there &= held_out[:, None] == is_validation
        found = {
            "perturbed": torch.from_numpy(answers.tokens[places]),
            "covariate": torch.from_numpy(covariates.astype(np.int64)),
            "changes": torch.from_numpy(answers.changes[places]),
            "has_change": torch.from_numpy(is_there.astype(np.float32)),
        }
        if answers.doses is not None:
            found["dose"] = torch.from_numpy(answers.doses[places])
        if answers.without is not None and answers.may_know is not None:
            as_unseen = uniforms(tokens.keys[:, None], "as unseen", np.arange(_PER_CELL)) < _AS_UNSEEN
            kind = as_unseen.astype(np.int64)
            found["may_know"] = torch.from_numpy(answers.may_know[kind, places])
            found["prior"] = torch.from_numpy(answers.without[kind, places])
        return found


def _drawn(answers: Answers, covariates: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return conditions of each cell's covariate, and whether there are any, shapes (B, P)."""
    places = np.zeros((len(keys), _PER_CELL), dtype=np.int64)
    is_there = np.zeros(places.shape, dtype=bool)
    for covariate in np.unique(covariates):
        rows, known = np.flatnonzero(covariates == covariate), answers.of_covariate(int(covariate))
        if len(known):
            drawn = integers(keys[rows][:, None], "perturbation", np.arange(_PER_CELL), len(known))
            places[rows], is_there[rows] = known[drawn], True
    return places, is_there
