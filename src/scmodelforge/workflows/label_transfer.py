"""Labels of one data set given to the cells of another, by what a model makes of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, SplitConfig
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.eval.base import BenchmarkInputs, Cells, Record
from scmodelforge.eval.baselines import pca_embedding, random_embedding
from scmodelforge.eval.benchmarks.label_transfer import LabelTransfer, LabelTransferConfig
from scmodelforge.eval.harness import evaluate, stratified_subsample
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows._obs_text import ObsColumn
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import embedded_cells, read_counts
from scmodelforge.workflows.team import Team
from scmodelforge.workflows.trained_cells import is_trained_on, refuse_same_cells

__all__ = ["TransferSet", "TransferSide", "open_transfer", "transfer_sets"]

_ADVICE = "cells whose labels are given cannot be asked for them. Name two data sets."


@dataclass
class TransferSide:
    """One of the two data sets, prepared for a model.

    Attributes
    ----------
    data, config
        The cells, and how they are read.
    label, batch
        obs columns.
    positions
        Cells that take part, ascending.
    """

    data: PreparedData
    config: DataConfig
    label: str
    batch: str | None
    positions: np.ndarray

    @classmethod
    def of(
        cls, data: PreparedData, config: DataConfig, *, label: str, batch: str | None, max_cells: int, seed: int
    ) -> TransferSide:
        """Choose the cells: all but empty ones, whatever a split says, subsampled by label."""
        cells = np.sort(np.concatenate([data.split.train, data.split.validation]))
        column = ObsColumn.of(data, label)
        assert column is not None
        return cls(data, config, label, batch, cells[stratified_subsample(column.codes[cells], max_cells, seed)])

    def column(self, key: str | None) -> np.ndarray | None:
        """Return the text of an obs column."""
        found = ObsColumn.of(self.data, key)
        return None if found is None else found.text(self.positions)

    @property
    def files(self) -> dict[str, str]:
        """Names of the files by their checksums."""
        return {entry["sha256"]: entry["name"] for entry in self.data.source.fingerprint()}

    @property
    def num_cells(self) -> int:
        """Cells of the source, also those that take no part."""
        return int(np.sum(self.data.source.file_sizes))


def transfer_sets(
    benchmarks: Iterable[BenchmarkConfig],
    parts: Bundle | PreparedData,
    *,
    untrained: Callable[[], nn.Module],
    max_cells: int,
    batch_size: int,
    seed: int,
) -> list[TransferSet]:
    """Return what is to be evaluated of the benchmarks that transfer labels; others are passed over.

    Parameters
    ----------
    benchmarks
        Settings of benchmarks.
    parts
        A model's vocabulary, tokenizer and preprocessing.
    max_cells
        Most cells of each data set, subsampled by label.
    untrained, batch_size, seed
        As of :class:`TransferSet`.

    Raises
    ------
    ConfigError, DataError
        As of :func:`open_transfer`, before anything is computed.
    """
    found = []
    for config in benchmarks:
        if not isinstance(config, LabelTransferConfig):
            continue
        benchmark = LabelTransfer(config)
        reference, query = open_transfer(config, parts, max_cells=max_cells, seed=seed)
        found.append(TransferSet(benchmark, reference, query, untrained, batch_size, seed))
    return found


def open_transfer(
    benchmark: LabelTransferConfig, parts: Bundle | PreparedData, *, max_cells: int, seed: int
) -> tuple[TransferSide, TransferSide]:
    """Open reference and query of a benchmark for a model's vocabulary, tokenizer and preprocessing.

    Raises
    ------
    ConfigError, DataError
        If a data set or column is not there or not named, or the genes are not the model's.
    """
    # Which makes sets of these.
    from scmodelforge.workflows.evaluation_sets import HELD_OUT_SHARE, known_set, split_for_evaluation

    assert benchmark.reference is not None  # the benchmark makes sure of both
    assert benchmark.dataset is not None
    sides = []
    for name, own, setting in (
        (benchmark.reference, benchmark.reference_label, "reference_label"),
        (benchmark.dataset, benchmark.label, "label"),
    ):
        path, label, batch = name, own, benchmark.batch if setting == "label" else None
        known = known_set(name)
        if known is not None:
            path, label, batch = f"dataset://{known.name}", own or known.label_column, batch or known.batch_column
        label = label or benchmark.label
        if label is None:
            msg = f"label_transfer: no obs column with the labels of {name} is named; set '{setting}' of the benchmark."
            raise ConfigError(msg)
        config = LocalDataConfig(paths=[path], label_column=label, batch_column=batch)
        config.split = SplitConfig(by="cells", validation_fraction=HELD_OUT_SHARE, seed=seed)  # all cells take part
        data = split_for_evaluation(config, parts)
        sides.append(TransferSide.of(data, config, label=label, batch=batch, max_cells=max_cells, seed=seed))
    return sides[0], sides[1]


@dataclass
class TransferSet:
    """Scores a model, and baselines of the same cells, on the transfer of labels from a reference to a query.

    Attributes
    ----------
    benchmark
        What is run.
    reference, query
        The cells.
    untrained
        Makes the model before training.
    batch_size
        Cells of a forward pass.
    seed
        Seed of probes and intervals.

    Raises
    ------
    DataError
        If the two data sets have a file or cells in common.
    """

    benchmark: LabelTransfer
    reference: TransferSide
    query: TransferSide
    untrained: Callable[[], nn.Module]
    batch_size: int
    seed: int
    _baselines: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _last: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        shared = sorted(set(self.reference.files) & set(self.query.files))
        if shared:
            msg = (
                f"label_transfer: reference and query are the same file ({self.reference.files[shared[0]]}); {_ADVICE}"
            )
            raise DataError(msg)
        refuse_same_cells("label_transfer, reference and query", self.reference.data, self.query.data, _ADVICE)

    def evaluate(
        self,
        model: nn.Module,
        *,
        model_id: str,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
        team: Team | None = None,
    ) -> list[Record]:
        """Return the records of the model and of the baselines; of a team, the first process gets them."""
        self.embed(model, device=device, autocast=autocast, team=team)
        return self.score(model_id) if team is None or team.is_first else []

    def embed(
        self,
        model: nn.Module,
        *,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
        team: Team | None = None,
    ) -> None:
        """Embed the cells of both data sets, by all processes of a team, for :meth:`score`."""
        team = team or Team.alone(device)
        where = {"device": device, "autocast": autocast}
        self._last = self._embed(model, team, where)
        if "untrained" not in self._baselines:
            self._baselines["untrained"] = self._embed(team.place(self.untrained), team, where)

    def score(self, model_id: str) -> list[Record]:
        """Return the records of the model that embedded the cells last, and of the baselines."""
        assert self._last is not None
        if "pca" not in self._baselines:
            self._baselines = self._others() | self._baselines
        vectors = {"model": self._last, **self._baselines}
        inputs = {name: self._inputs(rows, name, model_id) for name, rows in vectors.items()}
        records = evaluate([self.benchmark], inputs)
        for record in records:
            record.params |= self._known()
        return records

    def _known(self) -> dict[str, Any]:
        sides = {"reference": self.reference, "query": self.query}
        return {f"trained_on_{name}": is_trained_on(side.data, side.positions) for name, side in sides.items()}

    def _embed(self, model: nn.Module, team: Team, where: Mapping[str, Any]) -> np.ndarray:
        """Return the embeddings of the reference's cells, then of the query's."""
        options = {"team": team, "batch_size": self.batch_size, "seed": self.seed, **where}
        sides = (self.reference, self.query)
        return np.concatenate([embedded_cells(model, s.data, s.config, s.positions, **options) for s in sides])

    def _others(self) -> dict[str, np.ndarray]:
        counts = sp.vstack(
            [read_counts(side.data, side.config, side.positions) for side in (self.reference, self.query)]
        ).tocsr()
        width = self._baselines["untrained"].shape[1]
        return {
            "pca": pca_embedding(counts, num_train=len(self.reference.positions), seed=self.seed),
            "random": random_embedding(np.concatenate(self._positions()), width, seed=self.seed),
        }

    def _positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions in which no cell of the query has that of one of the reference."""
        return self.reference.positions, self.query.positions + self.reference.num_cells

    def _inputs(self, vectors: np.ndarray, representation: str, model_id: str) -> BenchmarkInputs:
        places = self._positions()
        num_reference = len(places[0])
        parts = [
            Cells(rows, labels=side.column(side.label), batches=side.column(side.batch), positions=own)
            for rows, side, own in zip(
                (vectors[:num_reference], vectors[num_reference:]), (self.reference, self.query), places, strict=True
            )
        ]
        hashes = sorted([*self.reference.files, *self.query.files])
        return BenchmarkInputs(
            dataset=self.benchmark.expected,
            train=parts[0],
            heldout=parts[1],
            representation=representation,
            dataset_hash=hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
            label_key=self.query.label,
            batch_key=self.query.batch,
            seed=self.seed,
            model_id=model_id,
        )
