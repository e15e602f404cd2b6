"""Genes a cell was measured for and does not express, drawn to be asked for."""

from __future__ import annotations

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import uniforms
from scmodelforge.data.types import TokenBlock

__all__ = ["draw_zero_genes"]


def draw_zero_genes(tokens: TokenBlock, numbers: np.ndarray, *, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw genes without expression, each at most once a cell, all alike.

    A gene that had no room in the sequence is expressed, one that the cell's file lacks is unknown: neither is drawn.

    Parameters
    ----------
    tokens
        The cells.
    numbers
        How many to draw for each cell, shape (n,). A cell with fewer such genes gives all it has.
    vocab_size
        Number of tokens V.

    Returns
    -------
    Number of the cell of each drawn gene, ascending, and its token, each of shape (Z,).

    Raises
    ------
    ConfigError
        If the tokenizer does not say which genes were measured.
    """
    is_free = _free(tokens, vocab_size)
    available = is_free.sum(axis=1)
    numbers = np.minimum(numbers, available)
    is_dense = 2 * numbers > available  # most draws would repeat others
    found = [_ranked(tokens, is_free, int(cell), int(numbers[cell])) for cell in np.flatnonzero(is_dense)]
    found.append(_tried(tokens, is_free, np.where(is_dense, 0, numbers)))
    cells, genes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(cells, kind="stable")
    return cells[order], genes[order].astype(np.int32)


def _free(tokens: TokenBlock, vocab_size: int) -> np.ndarray:
    """Return which tokens are genes measured and not expressed, shape (n, V), bool."""
    known = tokens.measured
    if known is None:
        msg = (
            "zero genes are asked for, but the tokenizer's encoder does not say which genes were measured "
            "(TokenBlock.measured); set model.zero_target_ratio to 0, or let the encoder give it."
        )
        raise ConfigError(msg)
    is_free = np.zeros((len(tokens), vocab_size), dtype=bool)
    for number, panel in enumerate(known.panels):
        is_free[np.ix_(known.panel_index == number, panel)] = True
    rows = np.arange(len(tokens))
    is_free[np.repeat(rows, tokens.lengths), tokens.ids] = False
    is_free[np.repeat(rows, np.diff(known.cut_offsets)), known.cut_ids] = False
    return is_free


def _tried(tokens: TokenBlock, is_free: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Try random measured genes one after another and keep the first free ones, each once."""
    known = tokens.measured
    assert known is not None
    sizes = np.array([len(panel) for panel in known.panels])[known.panel_index]
    tries = 0
    chosen = np.zeros((len(tokens), 0), dtype=np.int64)
    while True:
        counters = np.arange(tries, tries + 2 * int(numbers.max(initial=0)) + 8)
        tries += len(counters)
        draws = uniforms(tokens.keys[:, None], "zero gene", counters[None, :])
        places = np.floor(draws * sizes[:, None]).astype(np.int64)
        genes = np.empty_like(places)
        for number, panel in enumerate(known.panels):
            rows = known.panel_index == number
            genes[rows] = panel[places[rows]] if len(panel) else 0
        chosen = np.concatenate([chosen, genes], axis=1)
        is_kept = np.take_along_axis(is_free, chosen, axis=1) & _is_first(chosen)
        if (is_kept.sum(axis=1) >= numbers).all():
            break
    is_kept &= np.cumsum(is_kept, axis=1) <= numbers[:, None]
    cells, columns = np.nonzero(is_kept)
    return cells, chosen[cells, columns]


def _is_first(genes: np.ndarray) -> np.ndarray:
    """Return where a gene stands for the first time in its row, shape (n, T), bool."""
    order = np.argsort(genes, axis=1, kind="stable")
    ordered = np.take_along_axis(genes, order, axis=1)
    is_new = np.ones(genes.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_first = np.empty_like(is_new)
    np.put_along_axis(is_first, order, is_new, axis=1)
    return is_first


def _ranked(tokens: TokenBlock, is_free: np.ndarray, cell: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Put all free genes of a cell into a random order and keep the first."""
    genes = np.flatnonzero(is_free[cell])
    draws = uniforms(tokens.keys[cell], "zero gene rank", genes)
    return np.full(number, cell), genes[np.argsort(draws, kind="stable")[:number]]
