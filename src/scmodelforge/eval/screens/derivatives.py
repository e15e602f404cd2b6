"""How a model's cell embedding changes, to first order, when a token is deleted.

A token's weight w is what its key counts for in the attention of every layer, and its state in the mean over tokens:
at 1 it is there, at 0 the other tokens see nothing of it. The derivative by w at 1, with the other sign, is the change
when the token is taken out. To it comes what the tokens behind change by moving up one place, which the derivatives by
the embedded tokens tell. All of them come from one pass back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge.data.draws import generator
from scmodelforge.data.types import Batch
from scmodelforge.models.components.transformer import TransformerStack

__all__ = ["TrackedModel", "deletion_changes"]


class TrackedModel:
    """A model that tells the changes of its embeddings.

    Parameters
    ----------
    model
        The model, in evaluation mode and with frozen weights.
    stack
        Its transformer.
    device
        Where it is.
    """

    def __init__(self, model: nn.Module, stack: TransformerStack, device: torch.device) -> None:
        self._model, self._stack, self._device = model, stack, device
        self._leaves: tuple[torch.Tensor, torch.Tensor] | None = None
        self._left: torch.Tensor | None = None

    def changes(
        self, batch: Batch, goal: np.ndarray | None, *, num_directions: int, seed: int
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return what deleting each token of each cell does.

        Parameters
        ----------
        batch
            The cells, with ``keys`` to draw directions from.
        goal
            Embedding that cells are to come nearer to, shape (H,).
        num_directions
            Number K of random directions across the embedding.
        seed
            Seed of these.

        Returns
        -------
        Changes of the cosine with the goal, shape (B, S), ``None`` without a goal; and of the embedding in each
        direction, in its own lengths, shape (K, B, S). What stands at padding means nothing.
        """
        moved = {
            name: each.to(self._device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()
        }
        shifted = self._embedded_without_first(moved)
        with torch.enable_grad(), self._hooked(self._track):
            cells: torch.Tensor = self._model.encode(**moved)  # type: ignore[operator]  # (B, H)
        assert self._leaves is not None
        assert self._left is not None
        leaves, left = (*self._leaves, self._left), self._left.detach()
        self._leaves = self._left = None
        extra = left.shape[1] - batch["input_ids"].shape[1]
        up = torch.zeros_like(left[:, extra:])
        if shifted is not None:
            up[:, 1:] = shifted[:, extra:] - leaves[1].detach()[:, extra + 1 :]
        wanted: list[tuple[torch.Tensor, torch.Tensor | None]] = [
            (cells, each)
            for each in _directions(cells.detach(), batch["keys"], num_directions, seed)  # type: ignore[typeddict-item]
        ]
        if goal is not None:
            aim = torch.from_numpy(goal).to(cells)[None]
            wanted.append((torch.nn.functional.cosine_similarity(cells, aim, dim=1).sum(), None))
        rows = []
        for number, (of, direction) in enumerate(wanted):
            found = torch.autograd.grad(of, leaves, direction, retain_graph=number < len(wanted) - 1, allow_unused=True)
            rows.append(deletion_changes(found, left, up).double().cpu().numpy())
        return None if goal is None else rows[-1], np.array(rows[:num_directions])

    def _track(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        bias = torch.zeros(args[0].shape[:2], dtype=torch.float32, device=args[0].device).requires_grad_()
        given = args[0].detach().requires_grad_()
        self._leaves = (bias, given)
        own = kwargs.get("key_bias")
        return (given, *args[1:]), kwargs | {"key_bias": bias if own is None else own.detach() + bias}

    def _embedded_without_first(self, batch: dict[str, Any]) -> torch.Tensor | None:
        """Return the embedded tokens of cells one place further up, shape (B, E + S - 1, H)."""
        if batch["input_ids"].shape[1] == 1:
            return None
        caught: list[torch.Tensor] = []

        def catch(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            caught.append(args[0])
            raise _EnoughError

        rest = {
            name: each[:, 1:] if isinstance(each, torch.Tensor) and each.ndim == 2 else each
            for name, each in batch.items()
        }
        with suppress(_EnoughError), torch.no_grad(), self._hooked(catch):
            self._model.encode(**rest)  # type: ignore[operator]
        return caught[0]

    @contextmanager
    def _hooked(self, before: Callable[..., Any]) -> Iterator[None]:
        def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            self._left = output

        hooks = [
            self._stack.register_forward_pre_hook(before, with_kwargs=True),
            self._stack.register_forward_hook(keep),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _EnoughError(Exception):
    """All that was wanted of a pass is known."""


def deletion_changes(found: tuple[torch.Tensor | None, ...], left: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return the first-order change of some number of each cell when a token is deleted, shape (B, S).

    Parameters
    ----------
    found
        Derivatives of the number by the bias of keys, shape (B, E + S), by what entered the transformer and by what
        left it, both (B, E + S, H). E is the number of states that a model puts before those of the tokens.
    left
        What left the transformer.
    up
        Change of each embedded token when it moves up one place, shape (B, S, H).
    """
    by_bias, by_given, by_left = found
    extra = left.shape[1] - up.shape[1]
    change = torch.zeros(left.shape[:2], dtype=left.dtype, device=left.device)
    if by_bias is not None:
        change -= by_bias
    if by_left is not None:  # a state leaves the mean, which moves away from it
        is_pooled = (by_left != 0).any(dim=-1)
        count = is_pooled.sum(dim=1, keepdim=True)
        mean = (left * is_pooled[..., None]).sum(dim=1, keepdim=True) / count[..., None].clamp(min=1)
        change += (by_left * (mean - left)).sum(dim=-1) * is_pooled * (count / (count - 1).clamp(min=1))
    change = change[:, extra:]
    if by_given is not None:
        moves = (by_given[:, extra:] * up).sum(dim=-1)
        change = change + moves.flip(1).cumsum(1).flip(1) - moves  # those of the tokens behind
    return change


def _directions(cells: torch.Tensor, keys: np.ndarray, number: int, seed: int) -> torch.Tensor:
    """Return random directions across embeddings, shape (K, B, H), over the lengths of these."""
    drawn = [generator(seed, "directions", int(key)).standard_normal((number, cells.shape[1])) for key in keys]
    random = torch.from_numpy(np.stack(drawn, axis=1)).to(cells)
    length = cells.norm(dim=1, keepdim=True).clamp(min=torch.finfo(cells.dtype).tiny)
    unit = cells / length
    return (random - (random * unit).sum(dim=-1, keepdim=True) * unit) / length
