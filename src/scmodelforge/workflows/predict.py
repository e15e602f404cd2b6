"""What a fine-tuned model predicts, in memory or written into a copy of an AnnData file.

What predictions are called and how they are made says the task that trains heads of the model's kind
(:meth:`~scmodelforge.finetuning.base.Task.predictor`). Kinds whose predictions are no columns have a workflow of their
own, such as :mod:`scmodelforge.workflows.predict_perturbations`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._wording import in_words_of
from scmodelforge.finetuning.base import task_of_head
from scmodelforge.finetuning.predictions import Naming, Predictor
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.workflows.copies import check_copy, num_rows, put_columns, put_uns, write_copy
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.progress import Countdown
from scmodelforge.workflows.ready_cells import COMMAND, ReadyCells, given, open_cells, provenance, ready_cells

__all__ = [
    "KEY",
    "Naming",
    "facts_of",
    "predict_file",
    "predicted_columns",
    "predictor_of",
    "require_rows",
]

#: How names of columns begin.
KEY = "scmodelforge"


def predictor_of(bundle: Bundle, naming: Naming) -> Any:
    """Return what makes predictions of a model, a :class:`~scmodelforge.finetuning.predictions.Predictor`.

    Raises
    ------
    ConfigError
        If it has no head, or what it learned cannot be named as asked.
    """
    task = task_of_head(_kind(bundle) or "")
    if task is None:
        msg = (
            f"{bundle.origin or 'the model'} has learned no cell types ({bundle.model_config.architecture}, trained by "
            f"{bundle.objective}), nor has it another head; give one that has, such as scdiva with "
            "model.pretraining_task: cell_type_annotation, fine-tune this one ('scmodelforge finetune'), or embed the "
            "cells and label them by their neighbours."
        )
        raise ConfigError(msg)
    return task.predictor(bundle, naming)


def predicted_columns(
    bundle: Bundle,
    predictor: Any,
    cells: ReadyCells,
    *,
    batch_size: int,
    advance: Callable[[int], None] = lambda cells: None,
) -> dict[str, Any]:
    """Make the columns that a model predicts.

    Parameters
    ----------
    bundle, predictor, cells
        The model, what :func:`predictor_of` returned for it, and the cells.
    batch_size
        Cells in a forward pass.
    advance
        Told of cells that are done.

    Returns
    -------
    By the ends of their names; those of genes have the order of the panel.
    """
    rows = np.full((cells.report.num_cells, 1), np.nan, dtype=np.float32)
    for positions, found in given(bundle, cells, cells.positions, batch_size=batch_size, head=predictor):
        if rows.shape[1] != found.shape[1]:
            rows = np.full((len(rows), found.shape[1]), np.nan, dtype=np.float32)
        rows[positions] = found
        advance(len(positions))
    columns: dict[str, Any] = predictor.columns(rows, cells.source.panels[0])
    return columns


def predict_file(
    data: Path,
    out: Path,
    *,
    model: str | Path,
    naming: Naming,
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
    dictionaries: Path | None = None,
    trust_plugins: bool = False,
    force: bool = False,
    bundle: Bundle | None = None,
) -> list[str]:
    """Write what a model predicts into ``obs`` or ``var`` of a copy of an .h5ad file.

    Returns
    -------
    Closing lines for the user.
    """
    check_copy(data, out, force=force)
    bundle = bundle or load_model(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
    with in_words_of(COMMAND):
        predictor: Predictor = predictor_of(bundle, naming)
    with in_words_of(COMMAND), ExitStack() as stack:
        source = stack.enter_context(closing(open_cells(data, layer=layer, gene_id_column=gene_id_column)))
        cells = ready_cells(bundle, source)
        countdown = stack.enter_context(closing(Countdown("predict", total=len(cells.positions))))
        found = predicted_columns(bundle, predictor, cells, batch_size=batch_size, advance=countdown.advance)
    facts = facts_of(bundle, cells, predictor)

    def change(file: Any) -> None:
        require_rows(num_rows(file, predictor.table), found, f"{data} {predictor.table}")
        put_columns(file, predictor.table, {f"{KEY}_{name}": values for name, values in found.items()})
        put_uns(file, f"{KEY}_{predictor.key}", facts)

    write_copy(data, out, change)
    names = ", ".join(f"{predictor.table}['{KEY}_{name}']" for name in found)
    return [
        f"{cells.coverage.known:,} of {cells.coverage.total:,} genes are in the model's vocabulary; "
        f"{len(cells.report.empty):,} of {cells.report.num_cells:,} cells have none of them",
        f"{predictor.key.replace('_', ' ')}: {out} {names} ({predictor.told(found)})",
        f'next: python -c "import anndata; print(anndata.read_h5ad({str(out)!r}).{predictor.table}'
        f'.{KEY}_{next(iter(found))}.value_counts())"',
    ]


def facts_of(bundle: Bundle, cells: ReadyCells, predictor: Any) -> dict[str, Any]:
    """Return where predictions come from, in values that a file can hold."""
    return {**provenance(bundle, cells), **predictor.facts}


def require_rows(there: int, found: dict[str, Any], name: str) -> None:
    """Refuse columns of genes for a table of other genes, such as those of ``raw``.

    Raises
    ------
    DataError
        If the numbers of rows differ.
    """
    rows = len(next(iter(found.values())))
    if rows != there:
        msg = (
            f"predictions are of {rows:,} genes and {name} has {there:,}: the counts are in raw, whose genes are "
            "others; name counts of the genes of var by --layer."
        )
        raise DataError(msg)


def _kind(bundle: Bundle) -> str | None:
    """Return the kind of a model's head, ``None`` if it has none."""
    config = bundle.model_config
    if isinstance(config, FineTunedConfig) and config.head.kind != "cell_types":
        return config.head.kind if config.has_head else None
    return None if label_head(bundle.model, config, bundle.labels) is None else "cell_types"
