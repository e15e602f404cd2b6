"""Cells as a datamodule of scvi-tools: dense counts of chosen genes from files of any size, for its models.

The names of the properties and of what is in a batch are those scvi-tools asks for of a datamodule of its own
(``scvi.model.SCVI(registry=...)``, ``train(datamodule=...)``; Gayoso et al. 2022, doi:10.1038/s41587-021-01206-w).
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._optional import require
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.training._batches import EvaluationBatches
from scmodelforge.training._dense import DenseBatches, GeneValues
from scmodelforge.training._loaders import make_loader
from scmodelforge.training.datamodule import CellDataModule

__all__ = ["ScviDataModule"]

_log = logging.getLogger(__name__)


class _Codes(NamedTuple):
    """An obs column of the cells in use: a code for each cell of the source, int32, and the names of the codes."""

    of_cells: np.ndarray
    names: np.ndarray


class ScviDataModule(CellDataModule):
    """Batches of counts for the models of scvi-tools.

    A batch is a dict of ``X``, counts of the genes, shape (B, G), float32, and ``batch`` and ``labels``, codes of shape
    (B, 1), int64. ``data.batch_column`` and ``data.label_column`` name their obs columns; without them there is one
    batch, one label. Genes that a file lacks count as 0 in its cells, which is logged.

    Parameters
    ----------
    source
        Counts.
    vocab
        The genes, in the order of the columns of ``X``.
    split
        Cells to train on and cells held out.
    config
        Settings of the data: columns, sampling, blocks, buffer, streams, threads.
    batch_size
        Cells of a batch on a device.
    seed
        Seed of the order of cells.
    unlabeled_category
        Label of cells without one, for models that are trained on partly labelled cells.
    model_name
        Class of the model, checked by scvi-tools when a saved one is loaded.

    Attributes
    ----------
    positions
        Positions in the source of all cells in use, ascending: the rows of what is inferred.
    n_obs, n_train, n_val
        Cells in use, trained on, held out.
    n_vars, n_batch, n_labels, n_samples
        Genes, batches, labels; there are no samples.

    Raises
    ------
    ConfigError
        If preprocessing is asked for that changes counts.
    DataError
        If cells have no value in ``data.batch_column``.

    Examples
    --------
    >>> model = scvi.model.SCVI(registry=cells.registry)  # doctest: +SKIP
    >>> model.train(max_epochs=10, datamodule=cells)  # doctest: +SKIP
    >>> latent = model.get_latent_representation(dataloader=cells.inference_dataloader())  # doctest: +SKIP
    """

    def __init__(
        self,
        source: CellSource,
        vocab: GeneVocab,
        split: CellSplit,
        config: DataConfig,
        *,
        batch_size: int = 128,
        seed: int = 0,
        unlabeled_category: str = "Unknown",
        model_name: str = "SCVI",
    ) -> None:
        _check_counts(config)
        held_out = self._held_out_loader if len(split.validation) else None
        super().__init__(train=self._train_loader, val=held_out, least_cells=2)
        self.source, self.vocab, self.split, self.config = source, vocab, split, config
        self.batch_size, self.seed, self.model_name = batch_size, seed, model_name
        self.unlabeled_category = unlabeled_category
        self.positions = np.sort(np.concatenate([split.train, split.validation]))
        self._batches = self._batch_codes()
        self._labels = self._label_codes()
        self._collate = DenseBatches(self.n_vars, {"batch": self._batches.of_cells, "labels": self._labels.of_cells})
        self._tell_lacking()

    @property
    def n_obs(self) -> int:  # noqa: D102 - see Attributes
        return len(self.positions)

    @property
    def n_train(self) -> int:  # noqa: D102
        return len(self.split.train)

    @property
    def n_val(self) -> int:  # noqa: D102
        return len(self.split.validation)

    @property
    def n_vars(self) -> int:  # noqa: D102
        return len(self.vocab.genes)

    @property
    def n_batch(self) -> int:  # noqa: D102
        return len(self._batches.names)

    @property
    def n_labels(self) -> int:  # noqa: D102
        return len(self._labels.names)

    @property
    def n_samples(self) -> int:  # noqa: D102
        return 0

    @property
    def var_names(self) -> np.ndarray:
        """The genes, shape (G,), object."""
        return np.array(self.vocab.genes, dtype=object)

    @property
    def batch_labels(self) -> np.ndarray:
        """Name of each batch code, shape (n_batch,), object."""
        return self._batches.names

    @property
    def labels(self) -> np.ndarray:
        """Name of each label code, shape (n_labels,), object; with a label column the last is of unlabelled cells."""
        return self._labels.names

    @property
    def label_keys(self) -> list[str] | None:
        """The label column as scvi-tools keeps it."""
        return None if self.config.label_column is None else [self.config.label_column]

    @property
    def labels_(self) -> np.ndarray:
        """Label of each training cell, shape (n_train,), object."""
        names: np.ndarray = self._labels.names[self._labels.of_cells[self.split.train]]
        return names

    @property
    def registry(self) -> dict[str, Any]:
        """What scvi-tools asks for instead of an AnnData object."""
        scvi = require("scvi", extra="scvi", why="A registry for scvi-tools")
        return {
            "scvi_version": scvi.__version__,
            "model_name": self.model_name,
            "setup_args": {
                "layer": None,
                "batch_key": self.config.batch_column,
                "labels_key": self.config.label_column,
                "size_factor_key": None,
                "categorical_covariate_keys": None,
                "continuous_covariate_keys": None,
            },
            "field_registries": self._fields(),
            "setup_method_name": "setup_datamodule",
        }

    def inference_dataloader(self, batch_size: int = 4096) -> EvaluationBatches:
        """Return the batches of all cells in use in order of :attr:`positions`, on this process."""
        loader = self._make(self.positions, 0, 1, shuffle=False, batch_size=batch_size)
        self._open.append(loader)
        return EvaluationBatches(loader)

    def _train_loader(self, rank: int, world_size: int) -> CellLoader:
        return self._make(self.split.train, rank, world_size, shuffle=True, batch_size=self.batch_size)

    def _held_out_loader(self, rank: int, world_size: int) -> CellLoader:
        return self._make(self.split.validation, rank, world_size, shuffle=False, batch_size=self.batch_size)

    def _make(self, positions: np.ndarray, rank: int, world_size: int, *, shuffle: bool, batch_size: int) -> CellLoader:
        return make_loader(
            self.source,
            GeneValues(self.vocab),
            _unchanged,
            positions,
            self.config,
            shuffle=shuffle,
            batch_size=batch_size,
            seed=self.seed,
            collate=self._collate,
            rank=rank,
            world_size=world_size,
        )

    def _fields(self) -> dict[str, Any]:
        """Return an entry for every field of a registry; those without data are empty."""
        batch = {"categorical_mapping": self.batch_labels, "original_key": self.config.batch_column}
        labels = {
            "categorical_mapping": self.labels,
            "original_key": self.config.label_column,
            "unlabeled_category": self.unlabeled_category,
        }
        genes = {"n_obs": self.n_obs, "n_vars": self.n_vars, "column_names": self.var_names}
        return {
            "X": _field("X", None, genes, {"n_vars": self.n_vars, "n_cells": self.n_obs}),
            "batch": _field("obs", "_scvi_batch", batch, {"n_batch": self.n_batch}),
            "labels": _field("obs", "_scvi_labels", labels, {"n_labels": self.n_labels}),
            "ind_x": _field("obs", "_indices", {}, {}),
            "size_factor": {"data_registry": {}, "state_registry": {}, "summary_stats": {}},
            "extra_categorical_covs": _no_covariates("n_extra_categorical_covs"),
            "extra_continuous_covs": _no_covariates("n_extra_continuous_covs"),
        }

    def _batch_codes(self) -> _Codes:
        column = self.config.batch_column
        if column is None:
            return self._one_code()
        codes, names = self.source.obs(column)
        num_missing = int(np.count_nonzero(codes[self.positions] < 0))
        if num_missing:
            msg = (
                f"{num_missing:,} cells have no value in obs column '{column}' (data.batch_column); leave them out by "
                f"data.filter: not isnull({column})."
            )
            raise DataError(msg)
        return self._renumbered(codes, names)

    def _label_codes(self) -> _Codes:
        column = self.config.label_column
        if column is None:
            return self._one_code()
        codes, names = self.source.obs(column)
        if self.unlabeled_category in names:
            codes = np.where(codes == names.index(self.unlabeled_category), -1, codes)
        found = self._renumbered(codes, names)
        of_cells = np.where(found.of_cells < 0, len(found.names), found.of_cells)
        return _Codes(of_cells, np.append(found.names, np.array([self.unlabeled_category], dtype=object)))

    def _renumbered(self, codes: np.ndarray, names: list[str]) -> _Codes:
        """Return codes that count only the categories of cells in use, -1 elsewhere."""
        present = np.unique(codes[self.positions])
        present = present[present >= 0]
        new = np.full(len(names) + 1, -1, dtype=np.int32)  # the last place is that of -1
        new[present] = np.arange(len(present))
        return _Codes(new[codes], np.array([names[code] for code in present], dtype=object))

    def _one_code(self) -> _Codes:
        return _Codes(np.zeros(sum(self.source.file_sizes), dtype=np.int8), np.array([0], dtype=object))

    def _tell_lacking(self) -> None:
        for panel in self.source.panels:
            known = self.vocab.map_panel(panel)
            num_lacking = self.n_vars - len(np.unique(known[known >= 0]))
            if num_lacking:
                _log.warning(
                    f"{panel.name} lacks {num_lacking:,} of {self.n_vars:,} genes; they count as 0 in its cells"
                )


def _check_counts(config: DataConfig) -> None:
    """Refuse settings that make something else of counts."""
    for setting in ("normalize", "log1p", "cache"):
        value = getattr(config.preprocessing, setting)
        if value:
            msg = f"data.preprocessing.{setting} is {value}, but models of scvi-tools take counts; leave it out."
            raise ConfigError(msg)


def _field(attribute: str, key: str | None, state: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "data_registry": {"attr_name": attribute, "attr_key": key},
        "state_registry": state,
        "summary_stats": numbers,
    }


def _no_covariates(number: str) -> dict[str, Any]:
    return {"data_registry": {}, "state_registry": {}, "summary_stats": {number: 0}}


def _unchanged(block: CellBlock) -> CellBlock:
    return block
