"""What a model says would happen to cells if genes of theirs were gone or up: settings and cells in, a table out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scmodelforge._errors import DataError, listed
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.embed import embed_batches, steady_batch
from scmodelforge.eval.screens.effects import CellEffects
from scmodelforge.eval.screens.exact import exact_effects
from scmodelforge.eval.screens.plan import Screen
from scmodelforge.eval.screens.statistics import collected, summary
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows._content_keys import KeysFromContent
from scmodelforge.workflows.perturbed_genes import gene_sets
from scmodelforge.workflows.perturbing import Perturbing, chosen_cells
from scmodelforge.workflows.prepare import Readable, sequential_loader
from scmodelforge.workflows.progress import Countdown
from scmodelforge.workflows.ready_cells import ReadyCells, given, placed, provenance

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["perturb_cells"]

_log = logging.getLogger(__name__)


def perturb_cells(
    bundle: Bundle, cells: ReadyCells, asked: Perturbing, *, batch_size: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a row for each perturbation and group of cells, and where the numbers come from.

    Parameters
    ----------
    bundle
        The model.
    cells
        What :func:`~scmodelforge.workflows.ready_cells.ready_cells` returned for it.
    asked
        What is done to which cells.
    batch_size
        Cells in a forward pass.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong.
    """
    screen = _screen(bundle, cells, asked)
    chosen = chosen_cells(cells, asked)
    goal = None if chosen.goal is None else _mean_embedding(bundle, cells, chosen.goal, batch_size)
    _log.info(
        "%s of %s in %s cells, %s",
        asked.kind,
        f"{len(screen.sets):,} gene sets" if len(screen.sets) > 1 else "1 gene set",
        f"{len(chosen.positions):,}",
        "by gradients" if asked.method == "gradient" else "by a pass for each",
    )
    found = collected(_effects(bundle, cells, screen, asked, chosen.positions, goal, batch_size))
    made = np.bincount(found["tested"], minlength=len(screen.sets))
    _require_made(bundle, screen, made)
    rows = summary(found, len(screen.sets), chosen.groups, seed=asked.seed)
    facts = {
        **provenance(bundle, cells),
        "perturbation": json.dumps({**asdict(asked), "genes": _text(asked.genes)}),
        "cells_perturbed": len(chosen.positions),
        "goal_cells": 0 if chosen.goal is None else len(chosen.goal),
    }
    return _table(bundle, screen, rows, asked), facts


def _screen(bundle: Bundle, cells: ReadyCells, asked: Perturbing) -> Screen:
    tokens = bundle.vocab.map_panel(cells.source.panels[0])
    numbers = bundle.vocab.gene_numbers
    measured = np.unique(numbers[tokens[tokens >= 0]])
    screen = Screen(
        kind=asked.kind,  # type: ignore[arg-type]
        sets=[],
        gene_tokens=bundle.vocab.gene_tokens,
        is_gene=numbers >= 0,
        max_length=int(bundle.tokenizer.config.max_genes),
        measured=measured,
        num_random=asked.random_genes,
        seed=asked.seed,
        keeps_zeros=bool(getattr(bundle.tokenizer.config, "include_zeros", False)),
    )
    return replace(screen, sets=gene_sets(bundle.vocab, asked.genes, asked.combine, measured))


def _effects(
    bundle: Bundle,
    cells: ReadyCells,
    screen: Screen,
    asked: Perturbing,
    positions: np.ndarray,
    goal: np.ndarray | None,
    batch_size: int,
) -> Iterator[CellEffects]:
    """Yield the effects in each cell, with a line of progress."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    countdown = Countdown("perturb", total=len(positions))
    try:
        with placed(bundle.model, device) as module:
            blocks = _blocks(bundle, cells, positions, batch_size)
            if asked.method == "gradient":
                from scmodelforge.eval.screens.gradient import gradient_effects

                found = gradient_effects(blocks, screen, module, pad_id=bundle.vocab.pad_id, device=device, goal=goal)
            else:

                def embed(block: TokenBlock) -> np.ndarray:
                    batch = steady_batch(block, pad_id=bundle.vocab.pad_id, device=device)
                    return next(embed_batches(module, [batch], device=device))[1]

                found = exact_effects(blocks, screen, embed, goal=goal, batch_size=batch_size)
            for each in found:
                countdown.advance(int(np.searchsorted(positions, each.cell)) + 1 - countdown.done)
                yield each
            countdown.advance(len(positions) - countdown.done)
    finally:
        countdown.close()


def _blocks(bundle: Bundle, cells: ReadyCells, positions: np.ndarray, batch_size: int) -> Iterator[TokenBlock]:
    encoder = KeysFromContent(bundle.tokenizer, bundle.vocab)
    with sequential_loader(
        Readable(cells.source, encoder, bundle.preprocessor.fitted(cells.source)),
        positions,
        collate=lambda tokens: tokens,
        config=DataConfig(),
        batch_size=batch_size,
        seed=0,
    ) as loader:
        for group in loader.one_pass():
            yield from (block for block in group if len(block))


def _mean_embedding(bundle: Bundle, cells: ReadyCells, positions: np.ndarray, batch_size: int) -> np.ndarray:
    rows = [vectors for _, vectors in given(bundle, cells, positions, batch_size=batch_size)]
    return np.asarray(np.concatenate(rows).mean(axis=0, dtype=np.float64))


def _require_made(bundle: Bundle, screen: Screen, made: np.ndarray) -> None:
    """Refuse a screen that can be made in no cell; say what of it cannot."""
    missing = [_name(bundle.vocab.genes, genes) for genes, count in zip(screen.sets, made, strict=True) if not count]
    if not made.any():
        msg = f"perturb.genes: no chosen cell expresses {listed(missing, 20)}; choose other genes or cells."
        raise DataError(msg)


def _table(bundle: Bundle, screen: Screen, rows: list[dict[str, Any]], asked: Perturbing) -> pd.DataFrame:
    import pandas as pd

    symbols = [symbol or gene for gene, symbol in zip(bundle.vocab.genes, bundle.vocab.symbols, strict=True)]
    measures = [name for name in ("shift", "goal_shift") if name in rows[0]]
    columns: dict[str, list[Any]] = {
        "gene": [_name(bundle.vocab.genes, screen.sets[row["tested"]]) for row in rows],
        "symbol": [_name(symbols, screen.sets[row["tested"]]) for row in rows],
        "kind": [asked.kind for _ in rows],
    }
    numbers = [
        "num_cells",
        *(f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")),
        "random_shift",
        "p_value",
        "fdr",
    ]
    if asked.per is not None:
        name = f"obs_{asked.per}" if asked.per in (*columns, *numbers) else asked.per
        columns[name] = [row["group"] for row in rows]
    columns |= {name: [row[name] for row in rows] for name in numbers}
    table = pd.DataFrame(columns)
    is_of_all = _text(asked.genes) == "all"
    return table[table["num_cells"] > 0].reset_index(drop=True) if is_of_all else table


def _name(names: Sequence[str], genes: Sequence[int]) -> str:
    return "+".join(names[gene] for gene in genes)


def _text(genes: str | Sequence[str]) -> str:
    return genes if isinstance(genes, str) else ",".join(genes)
