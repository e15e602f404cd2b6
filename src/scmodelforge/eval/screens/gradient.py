"""Effects of deleting genes to first order, of all genes of a cell at once.

A token's weight w is what its key counts for in every layer's attention, and its state in the mean over tokens: at 1 it
is there, at 0 the other tokens see nothing of it. The derivative of the embedding by w at 1, with the other sign, is
the first-order change of deleting the token. To it comes what the tokens behind change by moving up one place, which
the derivatives by the embedded tokens tell. All of it comes from passes back through the model.

- Towards a goal: one pass back, of the cosine with the goal.
- The plain shift, 1 - cosine, is 0 at no change and so is its derivative. It is half the square of the change across
  the embedding over the embedding's length, to second order; the square is estimated by passes back of some random
  directions (Johnson & Lindenstrauss 1984), drawn for each cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import generator
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.eval.embed import evaluating
from scmodelforge.eval.genes.changed_cells import CellTokens
from scmodelforge.eval.screens.effects import CellEffects, cell_effects
from scmodelforge.eval.screens.plan import CellPlan, GeneSet, Screen
from scmodelforge.models.components.packing import always_packed
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.objectives.collate import collate_for_encoding

__all__ = ["gradient_effects"]

_DIRECTIONS = 16
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
    tracked = _Tracked(model, _require_transformer(model, screen))
    with evaluating(model), _frozen(model), always_packed():
        for block in blocks:
            for row in range(len(block)):
                one = replace(block, measured=None).select(np.array([row]))
                cell = CellTokens.of(one, 0)
                plan = screen.of_cell(cell, int(one.keys[0]))
                if not len(plan.tested):
                    continue
                batch = collate_for_encoding(one, pad_id=pad_id)
                changes = tracked.changes(batch, device, goal, seed=screen.seed, key=int(one.keys[0]))
                yield _effects(int(one.cell_index[0]), screen, plan, cell, changes)


@dataclass(frozen=True)
class _Changes:
    """What deleting each token does: to the cosine with the goal, shape (S,); along random directions, shape (K, S)."""

    goal: np.ndarray | None
    directions: np.ndarray


def _effects(position: int, screen: Screen, plan: CellPlan, cell: CellTokens, changes: _Changes) -> CellEffects:
    """Add up the changes of the genes of each set: to first order, together they do what they do alone."""
    place = np.full(len(screen.gene_tokens), -1, dtype=np.int64)
    numbers = screen.number_of[cell.ids]
    place[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
    sets: list[GeneSet] = [screen.sets[number] for number in plan.tested.tolist()]
    sets += [genes for drawn in plan.random.values() for genes in drawn]
    genes = np.array([gene for each in sets for gene in each], dtype=np.int64)
    of_set = np.repeat(np.arange(len(sets)), [len(each) for each in sets])

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(of_set, weights=values[place[genes]], minlength=len(sets))

    shift = np.mean([added(values) ** 2 for values in changes.directions], axis=0) / 2
    goal = None if changes.goal is None else added(changes.goal)
    return cell_effects(position, screen, plan, shift, goal)


@dataclass
class _Tracked:
    """A model whose transformer can be differentiated by the tokens that enter it and by what their keys count for."""

    model: nn.Module
    stack: TransformerStack
    given: torch.Tensor | None = field(default=None, init=False)
    bias: torch.Tensor | None = field(default=None, init=False)
    left: torch.Tensor | None = field(default=None, init=False)

    def changes(self, batch: Batch, device: torch.device, goal: np.ndarray | None, *, seed: int, key: int) -> _Changes:
        """Return what deleting each token of a cell does, to first order."""
        moved = {name: each.to(device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()}
        shifted = self._entered({name: _without_first(each) for name, each in moved.items()})
        with torch.enable_grad(), self._hooked(self._track):
            embedding = self.model.encode(**moved)[0]  # type: ignore[operator]  # (H,)
        assert self.given is not None
        assert self.left is not None
        length = batch["input_ids"].shape[1]
        extra = self.given.shape[1] - length
        up = torch.zeros_like(self.given[0, extra:])
        if shifted is not None:
            up[1:] = shifted[0, extra:] - self.given[0, extra + 1 :].detach()
        unit = embedding.detach() / embedding.detach().norm()
        towards = None
        if goal is not None:
            aim = torch.from_numpy(goal).to(embedding)
            towards = torch.nn.functional.cosine_similarity(embedding, aim, dim=0)
        random = generator(seed, "directions", key).standard_normal((_DIRECTIONS, len(embedding)))
        drawn = torch.from_numpy(random).to(embedding)
        drawn = (drawn - (drawn @ unit)[:, None] * unit) / embedding.detach().norm()  # across the embedding
        asked = [*drawn.unbind(), *([] if towards is None else [None])]
        rows = []
        for number, direction in enumerate(asked):
            of = embedding if direction is not None else towards
            assert of is not None
            found = torch.autograd.grad(
                of,
                [each for each in (self.bias, self.given, self.left) if each is not None],
                grad_outputs=direction,
                retain_graph=number < len(asked) - 1,
                allow_unused=True,
            )
            rows.append(_of_deletion(found, self.left.detach(), up, extra)[:length].double().cpu().numpy())
        self.given = self.bias = self.left = None
        return _Changes(None if towards is None else rows[-1], np.array(rows[: len(drawn)]))

    def _track(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embedded, bias = args[0], kwargs.get("key_bias")
        self.given = embedded.detach().requires_grad_()
        self.bias = torch.zeros(embedded.shape[:2], dtype=torch.float32, device=embedded.device).requires_grad_()
        return (self.given, *args[1:]), kwargs | {"key_bias": self.bias if bias is None else bias.detach() + self.bias}

    def _entered(self, batch: dict[str, Any]) -> torch.Tensor | None:
        """Return the embedded tokens of a batch, shape (1, S, H), without passing the transformer."""
        if not batch["input_ids"].shape[1]:
            return None
        caught: list[torch.Tensor] = []

        def catch(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            caught.append(args[0])
            raise _EnoughError

        try:
            with torch.no_grad(), self._hooked(catch):
                self.model.encode(**batch)  # type: ignore[operator]
        except _EnoughError:
            pass
        return caught[0]

    @contextmanager
    def _hooked(self, before: Callable[..., Any]) -> Iterator[None]:
        def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            self.left = output

        hooks = [
            self.stack.register_forward_pre_hook(before, with_kwargs=True),
            self.stack.register_forward_hook(keep),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _EnoughError(Exception):
    """All that was wanted of a pass is known."""


def _of_deletion(
    found: tuple[torch.Tensor | None, ...], left: torch.Tensor, up: torch.Tensor, extra: int
) -> torch.Tensor:
    """Return the first-order change of deleting each token, shape (S,).

    Parameters
    ----------
    found
        Derivatives by the bias of keys, shape (1, E + S), by what entered the transformer and what left it.
    left
        What left it, shape (1, E + S, H).
    up
        Change of each embedded token when it moves up one place, shape (S, H).
    extra
        Number of states E that the model puts before those of the tokens.
    """
    by_bias, by_given, by_left = found
    change = torch.zeros(left.shape[1], dtype=torch.float64, device=left.device)
    if by_bias is not None:
        change -= by_bias[0]
    if by_left is not None:  # a state leaves the mean: the others' mean moves away from it
        is_pooled = by_left[0].abs().sum(dim=-1) > 0
        if is_pooled.sum() > 1:
            mean = left[0, is_pooled].mean(dim=0)
            away = (by_left[0] * (mean - left[0])).sum(dim=-1) * is_pooled
            change += away * is_pooled.sum() / (is_pooled.sum() - 1)
    change = change[extra:]
    if by_given is not None:
        moves = (by_given[0, extra:] * up).sum(dim=-1).double()
        change += moves.flip(0).cumsum(0).flip(0) - moves  # those behind the token
    return change


def _without_first(each: Any) -> Any:
    return each[:, 1:] if isinstance(each, torch.Tensor) and each.ndim == 2 else each


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


def _require_transformer(model: nn.Module, screen: Screen) -> TransformerStack:
    stacks = [each for each in model.modules() if isinstance(each, TransformerStack)]
    if screen.kind != "delete":
        msg = f"perturb.method 'gradient' has no {screen.kind}: genes without a token have no gradient; use 'exact'."
        raise ConfigError(msg)
    if screen.keeps_zeros:
        msg = "perturb.method is 'gradient', and the model's cells keep tokens of deleted genes; use 'exact'."
        raise ConfigError(msg)
    if not stacks:
        msg = (
            f"perturb.method is 'gradient', which needs a transformer over tokens; {type(model).__name__} has none, "
            f"{', '.join(_WITH_ONE)} have. Use 'exact'."
        )
        raise ConfigError(msg)
    return stacks[0]
