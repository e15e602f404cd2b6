"""A run's settings on other cells than its own: where these are, and which of them are held out."""

from __future__ import annotations

from pathlib import Path

from scmodelforge.config.schema import BenchmarkConfig, RunConfig, SplitConfig
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.workflows.chosen_benchmarks import check_columns_of
from scmodelforge.workflows.evaluation_sets import HELD_OUT_SHARE
from scmodelforge.workflows.prepare import open_source

__all__ = ["use_other_cells"]


def use_other_cells(
    config: RunConfig, data: Path, *, layer: str | None, gene_id_column: str | None, split_by: str
) -> None:
    """Put a file in the place of the data of a run's settings, of which label and batch column stay.

    Parameters
    ----------
    config
        Settings of the run, which are changed.
    data
        An .h5ad file.
    layer, gene_id_column
        As ``data.layer`` and ``data.gene_id_column``.
    split_by
        As ``data.split.by``.

    Raises
    ------
    ConfigError, DataError
        If the file cannot be read, or lacks a column that a benchmark needs.
    """
    own = config.data
    config.data = LocalDataConfig(
        paths=[str(data)],
        layer=layer,
        gene_id_column=gene_id_column,
        label_column=own.label_column,
        batch_column=own.batch_column,
        split=SplitConfig(by=split_by, validation_fraction=HELD_OUT_SHARE, seed=config.eval.seed),
    )
    source = open_source(config.data)
    columns = BenchmarkConfig(name="all", label=own.label_column, batch=own.batch_column)
    check_columns_of([columns, *config.eval.benchmarks], data, source.obs_columns)
    source.close()
