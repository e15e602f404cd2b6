"""The model under check, with settings, cells and batches of its own objective."""

from __future__ import annotations

import contextlib
import copy
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge.config.cell_labels import CELL_LABELS, counted_terms, needed_labels
from scmodelforge.config.schema import MaskingConfig, ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.objectives import collate_for_encoding, get_objective
from scmodelforge.objectives.counted import Counted
from scmodelforge.training.objective import Objective
from scmodelforge.workflows.model_check.cells import (
    NUM_BINS,
    VOCAB_SIZE,
    copied,
    first_cells,
    make_cells,
    make_vocab,
    tensors,
    without,
)
from scmodelforge.workflows.model_check.results import fail

__all__ = ["NUM_LABELS", "Subject", "seed_draws"]

_DEFAULT_OBJECTIVE = "masked_gene_prediction"
_SIZES: dict[str, Any] = {
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "max_seq_len": 48,
    "dropout": 0.0,
    "n_bins": NUM_BINS,
    "decoder_layers": 2,
}
_BATCH_SIZE = 8
#: Labels of cells of each kind.
NUM_LABELS = 3


class Subject:
    """A model class with all that its checks need.

    Parameters
    ----------
    model_class
        The class.
    name
        Name of the architecture in the settings; ``None`` is that of the class.
    seed
        Seed of the cells and of the weights.
    """

    def __init__(self, model_class: type, *, name: str | None, seed: int) -> None:
        self.model_class: Any = model_class
        self.seed = seed
        self.name = name or model_class.__name__
        self.objective_name = str(getattr(model_class, "default_objective", _DEFAULT_OBJECTIVE))
        self.is_causal = bool(getattr(model_class, "is_causal", False))
        self.logits_of = str(getattr(model_class, "logits_of", "positions"))
        self.asked = "labels"  # the key of a batch that says what is asked for
        self._pooling: str | None = None
        self._weights: dict[str, torch.Tensor] | None = None

    def prepare(self) -> None:
        """Make the objective, and of the synthetic cells the batches of all checks."""
        vocab = make_vocab()
        masking = TokenizerConfig(masking=MaskingConfig(mask_ratio=0.3))
        settings = self.settings()
        objective = get_objective(self.objective_name, vocab=vocab, tokenizer_config=masking, model_config=settings)
        self.cells = make_cells(vocab, self.seed)
        if getattr(objective, "needs_counts", False):
            self.cells = replace(self.cells, values=np.ceil(self.cells.values))
        rng = np.random.default_rng(self.seed)
        known = int(self.cells.cell_index.max()) + 1
        labels = {name: rng.integers(NUM_LABELS, size=known) for name in needed_labels(settings)}
        self.objective = Counted(objective, counted_terms(settings), labels)
        parts = [self.cells.select(_rows(start)) for start in range(0, len(self.cells), _BATCH_SIZE)]
        self.batches: list[dict[str, Any]] = [dict(self.objective(part)) for part in parts]
        self.empty = dict(self.objective(first_cells(self.cells, 0)))
        if "labels" not in self.batches[0] and labels:
            self.asked = next(iter(labels))
        self._clean = tensors(collate_for_encoding(parts[0], pad_id=vocab.pad_id))

    def settings(self, **changes: Any) -> ModelConfig:
        """Return tiny settings, of the model's own class."""
        config_class = getattr(self.model_class, "config_class", ModelConfig)
        sizes = {**_SIZES, "architecture": self.name, "vocab_size": VOCAB_SIZE, "pooling": self._pooling, **changes}
        config: ModelConfig = config_class.model_validate(sizes)
        for name in needed_labels(config):
            setattr(config, CELL_LABELS[name].size, NUM_LABELS)
        return config

    def choose_pooling(self) -> None:
        """Leave the pooling to the model if it has one of its own, else take the mean."""
        try:
            self.fresh()
        except ValueError as problem:
            if "pooling" not in str(problem):
                raise
            self._pooling = "mean"

    def fresh(self, *, seed: int | None = None, **changes: Any) -> nn.Module:
        """Return a model with fresh weights, in evaluation mode."""
        seed_draws(self.seed if seed is None else seed)
        model: nn.Module = self.model_class.from_config(self.settings(**changes))
        return model.eval()

    def model(self) -> nn.Module:
        """Return a model with the weights of :meth:`trained`, in evaluation mode."""
        if self._weights is None:
            self._weights = copy.deepcopy(self.trained().state_dict())
        model = self.fresh()
        model.load_state_dict(self._weights)
        return model

    def trained(self, **changes: Any) -> nn.Module:
        """Return a model after a few steps of training, in evaluation mode, always the same one.

        Layers that start at zero would hide what they do.
        """
        model = self.fresh(**changes)
        with contextlib.suppress(Exception):  # whoever asks whether it trains will see why it does not
            self._train_a_little(model)
        if all(p.isfinite().all() for p in model.parameters()):
            return model.eval()
        return self.fresh(**changes)

    def batch(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the first batch: eight cells of different lengths, one with ``<cls>`` only."""
        return tensors(self.batches[0])

    def clean(self) -> dict[str, torch.Tensor]:
        """Return the cells of :meth:`batch` with nothing hidden and nothing to predict, as for embedding."""
        return tensors(self._clean)

    def unlabelled(self) -> dict[str, torch.Tensor]:
        """Return :meth:`batch` without what is asked for."""
        return without(self.batch(), self.asked)

    def answer(self, model: nn.Module, batch: dict[str, Any], *, seed: int = 0, **more: Any) -> Any:
        """Call a model with what it takes of a batch; draws it makes depend on the seed alone."""
        seed_draws(seed)
        return model(**_taken(model.forward, {**batch, **more}))

    def forward(self, model: nn.Module, batch: dict[str, Any], *, seed: int = 0, **more: Any) -> ModelOutput:
        """Call a model; an answer in which something is missing cannot be checked and ends the check as failed."""
        output = self.answer(model, batch, seed=seed, **more)
        if not isinstance(output, ModelOutput):
            fail(
                f"forward returned {type(output).__name__}; it must return a scmodelforge.models.ModelOutput; "
                "put loss, logits and embeddings into one"
            )
        if self.asked in batch and output.loss is None:
            fail(
                f"forward gave no loss for a batch with {self.asked}; return ModelOutput(loss=...) whenever "
                f"{self.asked} are given"
            )
        if output.embeddings is None:
            fail("forward gave no embeddings; return ModelOutput(embeddings=...) of shape (B, H) always")
        if output.logits is None and more.get("return_logits", True):
            fail("forward gave no logits; return them for every position unless return_logits is False")
        return output

    def encode(self, model: Any, batch: dict[str, Any], *, seed: int = 0) -> torch.Tensor:
        """Embed the cells of a batch."""
        seed_draws(seed)
        embeddings: torch.Tensor = model.encode(**_taken(model.encode, batch))
        return embeddings

    def loss(self, model: nn.Module, batch: dict[str, Any], **more: Any) -> torch.Tensor:
        """Return the loss of a batch with labels."""
        loss = self.forward(model, batch, **more).loss
        assert loss is not None
        return loss

    def asked_loss(self, output: ModelOutput) -> torch.Tensor:
        """Return what of a loss is a mean over labelled positions: terms of whole cells need none."""
        assert output.loss is not None
        if self.asks_of_cells:
            return output.loss
        of_cells = {name for name, of in counted_terms(self.settings()).items() if of != "targets"}
        terms = [term for name, term in (output.loss_terms or {}).items() if name not in of_cells]
        return torch.stack(terms).sum() if terms else output.loss

    def real_logits(self, logits: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits without those at padding; logits of genes or cells, shape (B, n), have no padding."""
        return logits if self.logits_of != "positions" else logits[attention_mask != 0]

    def predicts_values(self) -> bool:
        """Tell whether values of known genes are asked for, not which genes are hidden."""
        if self.objective_name == "masked_value_prediction":
            return True
        genes = ("masked_gene_prediction", "next_gene_prediction", "next_count_prediction")
        if self.asks_of_cells or self.objective_name in genes:
            return False
        logits = self.forward(self.fresh(), self.batch()).logits
        assert logits is not None
        return logits.ndim == 2

    def takes_return_logits(self) -> bool:
        """Tell whether ``forward`` has the parameter ``return_logits``."""
        return "return_logits" in inspect.signature(self.model_class.forward).parameters

    @property
    def asks_of_cells(self) -> bool:
        """Whether labels of cells are asked for, and nothing at positions."""
        return self.asked != "labels"

    def targets(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return which positions are asked for, shape (B, S), or which cells, shape (B,)."""
        return batch[self.asked] != IGNORE_INDEX

    def _train_a_little(self, model: nn.Module) -> None:
        objective = Objective(model).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for batch in self.batches:
            optimizer.zero_grad()
            torch.stack(list(objective(copied(batch)).values())).sum().backward()
            optimizer.step()


def seed_draws(seed: int) -> None:
    """Seed what models draw here, on the CPU: torch.manual_seed also keeps a stack trace for each accelerator."""
    torch.default_generator.manual_seed(seed)


def _rows(start: int) -> np.ndarray:
    return np.arange(start, start + _BATCH_SIZE)


def _taken(method: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Return what a method takes of a batch: all if it has ``**kwargs``. Whether it has is checked by itself."""
    parameters = inspect.signature(method).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return batch
    return {name: value for name, value in batch.items() if name in parameters}
