"""What scGPT learns beside the values at hidden genes, with the heads that this needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.models.components.cell_losses import cell_contrast_loss, elastic_similarity_loss, reverse_gradient
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.losses import masked_cross_entropy, masked_squared_error
from scmodelforge.models.components.scgpt_parts import CellHead, CellValueHead

__all__ = ["Asked", "ScGPTTerms"]


@dataclass(frozen=True)
class Asked:
    """What is asked for in a batch.

    Attributes
    ----------
    is_target
        Where a value is asked for, shape (B, S), bool.
    targets
        The true values at these places, shape (M,).
    genes
        The normalised vectors of the genes there, shape (M, H).
    """

    is_target: torch.Tensor
    targets: torch.Tensor
    genes: torch.Tensor

    def mean_error(self, predictions: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of predictions at the places asked for, shape (M,); 0 without any."""
        return masked_squared_error(predictions, self.targets, torch.ones_like(self.targets, dtype=torch.bool))


class ScGPTTerms(nn.Module):
    """Terms of the loss that are computed from the vectors of cells.

    Parameters
    ----------
    config
        Settings of the model, :class:`~scmodelforge.models.scgpt_config.ScGPTConfig`.

    Attributes
    ----------
    value_head
        Values from vectors of cells, ``None`` without ``gepc_weight``.
    class_head
        Scores of cell types, ``None`` without ``cls_weight``.
    batch_head
        Scores of batches, ``None`` without ``dab_weight``.

    Raises
    ------
    ConfigError
        If a number of classes is needed and not set.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.weights = {
            "gepc": config.gepc_weight,
            "second_pass": config.second_pass_weight,
            "ecs": config.ecs_weight,
            "cce": config.cce_weight,
            "dab": config.dab_weight,
            "cls": config.cls_weight,
        }
        self.threshold, self.temperature = config.ecs_threshold, config.cce_temperature
        num_types, num_batches, layers = config.num_cell_types, config.num_batches, config.cls_layers
        dim, eps = config.hidden_dim, config.layer_norm_eps
        self.value_head = CellValueHead(dim) if config.gepc_weight else None
        self.class_head: CellHead | None = None
        self.batch_head: CellHead | None = None
        if config.cls_weight:
            number = _needed(num_types, "num_cell_types", "cls_weight", "data.label_column")
            self.class_head = CellHead(dim, number, num_layers=layers, layer_norm_eps=eps)
        if config.dab_weight:
            number = _needed(num_batches, "num_batches", "dab_weight", "data.batch_column")
            leaky = nn.LeakyReLU
            self.batch_head = CellHead(dim, number, num_layers=layers, layer_norm_eps=eps, activation=leaky)

    def flop_parts(self, *, is_generative: bool) -> Parts:
        """Return what a pass of training of the whole model computes on; some terms need all tokens once more."""
        once: list[tuple[str, str | int]] = [("embedding", "tokens"), ("encoder", "tokens")]
        parts = [*once, ("head", "targets"), ("terms.value_head", "targets")]
        parts += [("terms.class_head", 1), ("terms.batch_head", 1)]
        if self.weights["cce"]:
            parts += once
        if self.weights["second_pass"] and is_generative:
            parts += [*once, ("head", "targets")]
        return parts

    def classify(self, cells: torch.Tensor) -> torch.Tensor:
        """Score cell types, shape (B, C), of vectors of cells, shape (B, H).

        Raises
        ------
        ConfigError
            If there is no head for them.
        """
        if self.class_head is None:
            msg = "this scgpt has no head for cell types (model.cls_weight is 0); train one that has."
            raise ConfigError(msg)
        return self.class_head(cells)

    def reset(self) -> None:
        """Set first weights that are not the usual ones."""
        if self.value_head is not None:
            self.value_head.reset()

    def forward(
        self,
        cells: torch.Tensor,
        asked: Asked,
        *,
        again: Callable[[], torch.Tensor],
        from_cells: Callable[[torch.Tensor], torch.Tensor] | None,
        cell_types: torch.Tensor | None,
        batch_labels: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Return the weighted terms by name, scalars.

        Parameters
        ----------
        cells
            Vectors of the cells, shape (B, H).
        asked
            Which values are asked for.
        again
            Gives the vectors of the cells with other dropout, shape (B, H).
        from_cells
            Gives predictions at the places asked for, shape (M,), with given vectors in the place of ``<cls>``;
            ``None`` where nothing is generated.
        cell_types, batch_labels
            Class of each cell, -100 where unknown, shape (B,).

        Raises
        ------
        DataError
            If the classes of cells are needed and missing.
        """
        found: dict[str, torch.Tensor] = {}
        if self.value_head is not None:
            cell_of = asked.is_target.nonzero(as_tuple=True)[0]
            found["gepc"] = asked.mean_error(self.value_head(asked.genes, cells[cell_of]))
        if self.weights["second_pass"] and from_cells is not None:
            found["second_pass"] = asked.mean_error(from_cells(cells.detach()))
        if self.weights["ecs"]:
            found["ecs"] = elastic_similarity_loss(cells, self.threshold)
        if self.weights["cce"]:
            found["cce"] = cell_contrast_loss(cells, again(), self.temperature)
        if self.batch_head is not None:
            found["dab"] = _classified(self.batch_head(reverse_gradient(cells)), batch_labels, "batch_labels")
        if self.class_head is not None:
            found["cls"] = _classified(self.class_head(cells), cell_types, "cell_types")
        return {name: self.weights[name] * term for name, term in found.items()}


def _needed(number: int | None, name: str, weight: str, column: str) -> int:
    if number is None:
        msg = (
            f"model.{weight} is not 0, but model.{name} is not set; a run fills it from {column}, elsewhere set it to "
            "the number of classes."
        )
        raise ConfigError(msg)
    return number


def _classified(scores: torch.Tensor, labels: torch.Tensor | None, name: str) -> torch.Tensor:
    if labels is None:
        msg = f"the batch has no {name}, which the model learns from; give them, or set the weight of this term to 0."
        raise DataError(msg)
    return masked_cross_entropy(scores, labels)
