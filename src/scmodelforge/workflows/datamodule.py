"""From a settings file to a datamodule of Lightning or scvi-tools, for training loops of others. Needs Lightning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.filters import CellLimits
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.scan import scan
from scmodelforge.data.selection import choose_cells
from scmodelforge.data.types import TokenBlock
from scmodelforge.training._loaders import make_loader
from scmodelforge.training.datamodule import CellDataModule
from scmodelforge.training.scvi import ScviDataModule
from scmodelforge.workflows.objective import chosen_objective
from scmodelforge.workflows.prepare import PreparedData, check_columns, open_source, prepare_data
from scmodelforge.workflows.usable_cells import membership, without_unusable
from scmodelforge.workflows.vocabulary import build_vocab, select_genes

__all__ = ["RunDataModule", "cell_datamodule", "scvi_datamodule"]

_log = logging.getLogger(__name__)


class RunDataModule(CellDataModule):
    """The cells of a run as its settings prepare them, for a Lightning ``Trainer``.

    Parameters
    ----------
    config
        The settings. Of ``training``, only ``batch_size`` and ``seed`` matter; the rest is the ``Trainer``'s.
    data
        What was made of them.
    collate
        Makes the batches.

    Attributes
    ----------
    config, data
        As given: vocabulary, tokenizer and split are ``data``'s.
    """

    def __init__(self, config: RunConfig, data: PreparedData, collate: Callable[[TokenBlock], Any]) -> None:
        self.config, self.data, self._collate = config, data, collate
        held_out = data.split.validation
        super().__init__(
            train=partial(self._make, data.split.train, True),
            val=partial(self._make, held_out, False) if len(held_out) else None,
        )

    def _make(self, positions: np.ndarray, shuffle: bool, rank: int, world_size: int) -> CellLoader:
        source, preprocess = self.data.ready()
        return make_loader(
            source,
            self.data.tokenizer,
            preprocess,
            positions,
            self.config.data,
            shuffle=shuffle,
            batch_size=known_batch_size(self.config.training),
            seed=self.config.training.seed,
            collate=self._collate,
            rank=rank,
            world_size=world_size,
        )


def cell_datamodule(
    config: str | Path | RunConfig,
    overrides: Sequence[str] = (),
    *,
    collate: Callable[[TokenBlock], Any] | None = None,
) -> RunDataModule:
    """Prepare the data of a settings file as ``scmodelforge train`` does, for a Lightning ``Trainer``.

    Parameters
    ----------
    config
        Settings file, or settings, which are changed: sizes of the model that follow from the data are filled in.
    overrides
        Changes of settings of a file, ``a.b=c``.
    collate
        Makes a batch of tokens; by default the objective of the settings, whose batches models of this package take.

    Returns
    -------
    The training cells and, if there are any, the held-out ones. An epoch is a pass.

    Raises
    ------
    ConfigError, DataError
        For everything that is wrong with settings or data.
    """
    config = _settings(config, overrides)
    data = prepare_data(config)
    return RunDataModule(config, data, collate or chosen_objective(config, data)[1])


def scvi_datamodule(
    config: str | Path | RunConfig,
    overrides: Sequence[str] = (),
    *,
    unlabeled_category: str = "Unknown",
    model_name: str = "SCVI",
) -> ScviDataModule:
    """Prepare the cells of a settings file for a model of scvi-tools: its ``data`` section without normalisation.

    Parameters
    ----------
    config
        Settings file, or settings. Beside ``data``, only ``training.batch_size`` and ``training.seed`` matter.
    overrides
        Changes of settings of a file, ``a.b=c``.
    unlabeled_category, model_name
        As for :class:`~scmodelforge.training.scvi.ScviDataModule`.

    Returns
    -------
    Counts of the genes of ``data.gene_vocab``, of which ``data.preprocessing`` may choose the variable ones.

    Raises
    ------
    ConfigError, DataError
        For everything that is wrong with settings or data.
    """
    config = _settings(config, overrides)
    source = open_source(config.data)
    check_columns(config, source)
    vocab = build_vocab(config.data, source)
    split = choose_cells(source, config.data.split, expression=config.data.filter)
    preprocessing = config.data.preprocessing
    vocab = select_genes(preprocessing, source, vocab, membership(split.train), expects="counts")
    limits = CellLimits(preprocessing)
    report = scan(source, vocab, expects="counts", limits=limits)
    split = without_unusable(split, report, limits)[0]
    _log.info(split.describe())
    return ScviDataModule(
        source,
        vocab,
        split,
        config.data,
        batch_size=known_batch_size(config.training),
        seed=config.training.seed,
        unlabeled_category=unlabeled_category,
        model_name=model_name,
    )


def _settings(config: str | Path | RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Return the settings, without what a datamodule cannot follow."""
    if isinstance(config, RunConfig):
        if overrides:
            msg = "overrides change the settings of a file; change the given settings themselves."
            raise ConfigError(msg)
        settings = config
    else:
        settings = load_config(config, overrides)
    accumulation = settings.training.gradient_accumulation
    if accumulation > 1:
        msg = (
            f"training.gradient_accumulation is {accumulation}, which is the Trainer's affair here; leave it out and "
            f"give the Trainer accumulate_grad_batches={accumulation}."
        )
        raise ConfigError(msg)
    return settings
