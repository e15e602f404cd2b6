"""What a model says would happen if a gene of a cell were gone, or on at its highest: no experiment, only the model.

The tokens of a cell are changed (:mod:`scmodelforge.eval.genes.changed_cells`), and the change of the embeddings is the
effect (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9). What is asked of a model is little
(:class:`GeneModel`), so that this module needs none. Effects on genes and networks are found here; screens of very many
perturbations, by their effects on cells, in :mod:`scmodelforge.eval.screens`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.genes.changed_cells import Perturbation, perturbed_cells
from scmodelforge.eval.screens.effects import cosines

__all__ = ["Effect", "EncodedCells", "GeneModel", "Perturbation", "gene_numbers", "perturb", "perturbed_cells"]


@dataclass(frozen=True, slots=True)
class EncodedCells:
    """What a model makes of some cells.

    Attributes
    ----------
    cells
        Embedding of each cell, shape (n, H).
    tokens
        Hidden state of each token, in the order of the block's tokens, shape (T, H).
    expression
        Predicted expression of each gene, shape (n, G), if the model predicts it.
    """

    cells: np.ndarray
    tokens: np.ndarray
    expression: np.ndarray | None = None


class GeneModel(Protocol):
    """What perturbations and attention need of a model; ``BenchmarkInputs.model`` is one.

    Attributes
    ----------
    genes
        Names of the genes, G of them.
    gene_tokens
        Token of each gene, shape (G,).
    num_tokens
        Number of tokens V, special ones included.
    max_length
        Most tokens of a cell, special ones included.
    num_cells
        Number of cells there are to look at.
    """

    @property
    def genes(self) -> Sequence[str]:
        """Names of the genes."""
        ...

    @property
    def num_tokens(self) -> int:
        """Number of tokens."""
        ...

    @property
    def gene_tokens(self) -> np.ndarray:
        """Token of each gene."""
        ...

    @property
    def max_length(self) -> int:
        """Most tokens of a cell."""
        ...

    @property
    def num_cells(self) -> int:
        """Number of cells."""
        ...

    def limited(self, num_cells: int) -> GeneModel:
        """Return the model with so many of its cells at most, drawn at random."""
        ...

    def cells(self) -> Iterable[TokenBlock]:
        """Return the cells to look at, in blocks small enough for one pass; each call gives the same."""
        ...

    def encode(self, tokens: TokenBlock) -> EncodedCells:
        """Embed cells and their tokens, nothing hidden, without dropout."""
        ...

    def attention(self, tokens: TokenBlock) -> Sequence[np.ndarray]:
        """Return of each layer the share of each key in each query, shape (n, heads, S, S), S the longest cell."""
        ...


@dataclass(slots=True)
class Effect:
    """Mean effect of a perturbation over cells.

    Attributes
    ----------
    num_cells
        Cells it could be made in. A gene can be deleted only where it is among the tokens.
    cell_shift
        1 - cosine of the embedding before and after, of each of these cells, shape (num_cells,).
    gene_shift
        The same of the hidden states of each gene that was not changed, averaged over the cells that have it, shape
        (G,); NaN where none has it.
    state_shift
        By the name of a state, how much nearer (cosine) the embeddings come to its mean embedding, shape (num_cells,).
    expression_shift
        Change of predicted expression, averaged over the cells, shape (G,), if the model predicts it.
    """

    num_cells: int
    cell_shift: np.ndarray
    gene_shift: np.ndarray
    state_shift: dict[str, np.ndarray] = field(default_factory=dict)
    expression_shift: np.ndarray | None = None


def perturb(
    model: GeneModel, perturbations: Sequence[Perturbation], *, states: dict[str, np.ndarray] | None = None
) -> list[Effect]:
    """Return the effect of each perturbation on the model's cells.

    Parameters
    ----------
    model
        The model with its cells. Each block of cells is encoded once unchanged and once for each perturbation.
    perturbations
        What is done, each by itself.
    states
        Mean embeddings of states of cells, each of shape (H,), to tell what moves cells towards which.
    """
    number_of = gene_numbers(model)
    sums = [_Sums(len(model.genes)) for _ in perturbations]
    for block in model.cells():
        block = replace(block, measured=None)
        encoded = model.encode(block)
        for one, total in zip(perturbations, sums, strict=True):
            tokens = model.gene_tokens[list(one.genes)]
            before, after, rows = perturbed_cells(
                block, one, tokens=tokens, is_gene=number_of >= 0, max_length=model.max_length
            )
            if len(rows) == 0:
                continue
            is_whole = np.array_equal(before.lengths, block.lengths[rows])
            first = _selected(encoded, block, rows) if is_whole else model.encode(before)
            total.add(before, after, first, model.encode(after), tokens, number_of, states or {})
    return [each.effect() for each in sums]


class _Sums:
    """Effects on cells and genes, added up over blocks."""

    def __init__(self, num_genes: int) -> None:
        self._shift, self._count = np.zeros(num_genes), np.zeros(num_genes)
        self._cells: list[np.ndarray] = []
        self._states: dict[str, list[np.ndarray]] = {}
        self._expression: np.ndarray | None = None

    def add(
        self,
        before: TokenBlock,
        after: TokenBlock,
        first: EncodedCells,
        second: EncodedCells,
        tokens: np.ndarray,
        number_of: np.ndarray,
        states: dict[str, np.ndarray],
    ) -> None:
        self._cells.append(1 - cosines(first.cells, second.cells))
        for name, state in states.items():
            moved = cosines(second.cells, state[None]) - cosines(first.cells, state[None])
            self._states.setdefault(name, []).append(moved)
        one, two = (_places(each, tokens, number_of) for each in (before, after))
        numbers = number_of[before.ids[one]]
        shift = 1 - cosines(first.tokens[one], second.tokens[two])
        self._shift += np.bincount(numbers, weights=shift, minlength=len(self._shift))
        self._count += np.bincount(numbers, minlength=len(self._count))
        if first.expression is not None and second.expression is not None:
            change = (second.expression - first.expression).sum(axis=0)
            self._expression = change if self._expression is None else self._expression + change

    def effect(self) -> Effect:
        cells = np.concatenate([np.zeros(0), *self._cells])
        mean = np.divide(self._shift, self._count, out=np.full_like(self._shift, np.nan), where=self._count > 0)
        states = {name: np.concatenate(parts) for name, parts in self._states.items()}
        expression = None if self._expression is None else self._expression / len(cells)
        return Effect(len(cells), cells, mean, states, expression)


def _places(block: TokenBlock, tokens: np.ndarray, number_of: np.ndarray) -> np.ndarray:
    """Return the places of the genes that were not changed, cell by cell in the order of their tokens' ids."""
    cells = np.repeat(np.arange(len(block)), block.lengths)
    places = np.flatnonzero((number_of[block.ids] >= 0) & ~np.isin(block.ids, tokens))
    return places[np.lexsort((block.ids[places], cells[places]))]


def gene_numbers(model: GeneModel) -> np.ndarray:
    """Return the number of the gene of each token, shape (V,), int64, -1 for tokens that are none's."""
    found = np.full(model.num_tokens, -1, dtype=np.int64)
    found[model.gene_tokens] = np.arange(len(model.gene_tokens))
    return found


def _selected(encoded: EncodedCells, block: TokenBlock, rows: np.ndarray) -> EncodedCells:
    is_chosen = np.isin(np.repeat(np.arange(len(block)), block.lengths), rows)
    expression = None if encoded.expression is None else encoded.expression[rows]
    return EncodedCells(encoded.cells[rows], encoded.tokens[is_chosen], expression)
