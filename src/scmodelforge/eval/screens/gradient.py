"""Effects of deleting genes to first order, of all genes of a cell at once.

- Towards a goal: the first-order change of the cosine with it, by one pass back.
- The plain shift, 1 - cosine, is 0 at no change and so is its derivative. To second order it is half the square of
  the change across the embedding over the embedding's length. The square is estimated by passes back along random
  directions (Johnson & Lindenstrauss 1984), drawn for each cell, so that their error averages out over cells.

What the change of a token is, :mod:`scmodelforge.eval.screens.derivatives` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.embed import evaluating
from scmodelforge.eval.genes.changed_cells import CellTokens
from scmodelforge.eval.screens.derivatives import TrackedModel
from scmodelforge.eval.screens.effects import CellEffects, cell_effects
from scmodelforge.eval.screens.plan import CellPlan, GeneSet, Screen
from scmodelforge.models.components.packing import always_packed
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.objectives.collate import collate_for_encoding

__all__ = ["gradient_effects"]

_DIRECTIONS = 16
#: Tokens that go through the model together, at least a cell: a pass back remembers all of a pass.
_MOST_TOKENS = 2048
_WITH_ONE = (
    "transformer_encoder",
    "autoregressive_transformer",
    "masked_autoencoder",
    "scgpt",
    "transcriptformer",
    "scdiva_diffusion",
)


def gradient_effects(
    blocks: Iterable[TokenBlock],
    screen: Screen,
    model: nn.Module,
    *,
    pad_id: int,
    device: torch.device,
    goal: np.ndarray | None = None,
) -> Iterator[CellEffects]:
    """Yield the first-order effects in each cell in which a perturbation can be made, in the order of the cells.

    Parameters
    ----------
    blocks, screen, goal
        As of :func:`~scmodelforge.eval.screens.exact.exact_effects`.
    model, device
        The model, one with a transformer, and where it is.
    pad_id
        Token that fills up shorter cells.

    Raises
    ------
    ConfigError
        If the model or what is done to genes has no gradient.
    """
    tracked = TrackedModel(model, require_gradient(model, screen), device)
    # with a goal the plain shift is told too, by the same directions
    asked: dict[str, Any] = {"num_directions": _DIRECTIONS, "seed": screen.seed}
    with evaluating(model), _frozen(model), always_packed():
        for block in blocks:
            cells = [CellTokens.of(block, row) for row in range(len(block))]
            plans = [screen.of_cell(cell, int(key)) for cell, key in zip(cells, block.keys, strict=True)]
            for rows in _parts(block.lengths, [row for row, plan in enumerate(plans) if len(plan.tested)]):
                part = replace(block, measured=None).select(np.array(rows))
                batch: Any = {**collate_for_encoding(part, pad_id=pad_id), "keys": part.keys}
                towards, along = tracked.changes(batch, goal, **asked)
                for number, row in enumerate(rows):
                    position, own = int(block.cell_index[row]), None if towards is None else towards[number]
                    yield _effects(position, screen, plans[row], cells[row], own, along[:, number])


def require_gradient(model: nn.Module, screen: Screen) -> TransformerStack:
    """Return the transformer of a model whose gradient tells what a screen asks for.

    Raises
    ------
    ConfigError
        If it does not.
    """
    if screen.kind != "delete":
        msg = f"perturb.method 'gradient' has no {screen.kind}: genes without a token have no gradient; use 'exact'."
        raise ConfigError(msg)
    if screen.keeps_zeros:
        msg = "perturb.method is 'gradient', and the model's cells keep tokens of deleted genes; use 'exact'."
        raise ConfigError(msg)
    stack = getattr(getattr(model, "backbone", model), "encoder", None)
    if not isinstance(stack, TransformerStack):
        msg = (
            f"perturb.method is 'gradient', which needs a transformer over tokens; {type(model).__name__} has none, "
            f"{', '.join(_WITH_ONE)} have. Use 'exact'."
        )
        raise ConfigError(msg)
    return stack


def _parts(lengths: np.ndarray, rows: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows that go through the model together."""
    part: list[int] = []
    for row in rows:
        if part and lengths[[*part, row]].sum() > _MOST_TOKENS:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _effects(
    position: int, screen: Screen, plan: CellPlan, cell: CellTokens, towards: np.ndarray | None, along: np.ndarray
) -> CellEffects:
    """Add up the changes of the genes of each set: to first order, together they do what they do alone."""
    numbers = screen.number_of[cell.ids]
    place = np.full(len(screen.gene_tokens), -1, dtype=np.int64)
    place[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
    sets: list[GeneSet] = [screen.sets[number] for number in plan.tested.tolist()]
    sets += [genes for drawn in plan.random.values() for genes in drawn]
    places = place[[gene for each in sets for gene in each]]
    of_set = np.repeat(np.arange(len(sets)), [len(each) for each in sets])

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(of_set, weights=values[places], minlength=len(sets))

    shift = np.mean([added(values) ** 2 for values in along], axis=0) / 2
    return cell_effects(position, screen, plan, shift, None if towards is None else added(towards))


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Spare the derivatives by the weights."""
    asked = [(each, each.requires_grad) for each in model.parameters()]
    for each, _ in asked:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each, was in asked:
            each.requires_grad_(was)
