"""Labels of one data set given to the cells of another, by what a model makes of both."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Cells, Record
from scmodelforge.eval.baselines import random_embedding
from scmodelforge.eval.benchmarks.label_transfer import LabelTransfer, LabelTransferConfig
from scmodelforge.eval.harness import MODEL, evaluate
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.baseline_embeddings import baseline_embeddings, in_order, need_counts
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import embedded_cells, read_counts
from scmodelforge.workflows.team import Team
from scmodelforge.workflows.trained_cells import is_trained_on, refuse_known_cells, refuse_same_cells
from scmodelforge.workflows.transfer_sides import TransferSide, open_transfer

__all__ = ["TransferSet", "transfer_sets"]

_log = logging.getLogger(__name__)
_NOISE_WIDTH = 16
_OTHER_QUERY = "name a query that it has not seen"
_ADVICE = "cells whose labels are given cannot be asked for them. Name two data sets."


def transfer_sets(
    benchmarks: Iterable[BenchmarkConfig],
    parts: Bundle | PreparedData,
    *,
    untrained: Callable[[], nn.Module],
    baselines: Sequence[str],
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
    untrained, baselines, batch_size, seed
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
        found.append(TransferSet(benchmark, reference, query, untrained, baselines, batch_size, seed))
        refuse_known_cells(f"label_transfer, query {config.dataset}", query.data, _OTHER_QUERY, query.positions)
    return found


@dataclass(frozen=True)
class _Fitted:
    """The cells of both data sets as baselines see them. Batches of two data sets are not of one column."""

    positions: np.ndarray
    num_train: int
    seed: int
    batches: None = None


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
    baselines
        Names of baselines; what is fitted is fitted on the cells of the reference.
    batch_size
        Cells of a forward pass.
    seed
        Seed of probes and intervals.

    Raises
    ------
    DataError
        If the two data sets have a file or cells in common.
    ConfigError
        If they have no label in common, or the mapping names one that there is not.
    """

    benchmark: LabelTransfer
    reference: TransferSide
    query: TransferSide
    untrained: Callable[[], nn.Module]
    baselines: Sequence[str]
    batch_size: int
    seed: int
    _untrained: np.ndarray | None = field(default=None, init=False, repr=False)
    _baselines: dict[str, np.ndarray] | None = field(default=None, init=False, repr=False)
    _not_made: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _last: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        shared = sorted(set(self.reference.files) & set(self.query.files))
        if shared:
            msg = (
                f"label_transfer: reference and query are the same file ({self.reference.files[shared[0]]}); {_ADVICE}"
            )
            raise DataError(msg)
        refuse_same_cells("label_transfer, reference and query", self.reference.data, self.query.data, _ADVICE)
        labels = [side.column(side.label) for side in (self.reference, self.query)]
        self.benchmark.check_labels(*labels)

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
        if "untrained" in self.baselines and self._untrained is None:
            self._untrained = self._embed(team.place(self.untrained), team, where)

    def score(self, model_id: str) -> list[Record]:
        """Return the records of the model that embedded the cells last, and of the baselines."""
        assert self._last is not None
        if self._baselines is None:
            self._baselines = self._embed_baselines(self._last.shape[1])
        vectors = {MODEL: self._last, **self._baselines}
        inputs = {name: self._inputs(rows, name, model_id) for name, rows in vectors.items()}
        records = evaluate([self.benchmark], inputs)
        own = [record for record in records if record.representation == MODEL]
        records += [_skipped(record, name, why) for name, why in self._not_made.items() for record in own]
        for record in records:
            record.params |= self._known()
            self._tell_sample(record)
        return records

    def _tell_sample(self, record: Record) -> None:
        """Say of how many cells those of the query, and of the reference, were chosen."""
        if len(self.query.positions) < self.query.num_there:
            record.subsample = self.query.num_there
            record.params |= {"subsample_size": len(self.query.positions), "subsample_seed": self.seed}
        if len(self.reference.positions) < self.reference.num_there:
            record.params |= {"subsample_of_reference": self.reference.num_there, "subsample_seed": self.seed}

    def of_noise(self) -> list[Record]:
        """Return the records of noise in place of a model: they say which metrics have a value on these cells."""
        noise = random_embedding(np.concatenate(self._positions()), _NOISE_WIDTH, seed=self.seed)
        return self.benchmark.run(self._inputs(noise, "noise", ""))

    def _known(self) -> dict[str, Any]:
        sides = {"reference": self.reference, "query": self.query}
        return {f"trained_on_{name}": is_trained_on(side.data, side.positions) for name, side in sides.items()}

    def _embed(self, model: nn.Module, team: Team, where: Mapping[str, Any]) -> np.ndarray:
        """Return the embeddings of the reference's cells, then of the query's."""
        options = {"team": team, "batch_size": self.batch_size, "seed": self.seed, **where}
        sides = (self.reference, self.query)
        return np.concatenate([embedded_cells(model, s.data, s.config, s.positions, **options) for s in sides])

    def _embed_baselines(self, width: int) -> dict[str, np.ndarray]:
        """Return the embeddings of the baselines that can be made of these cells, and keep why others cannot."""
        names, sides = in_order(self.baselines), (self.reference, self.query)
        counts = None
        if need_counts(names):
            counts = sp.vstack([read_counts(side.data, side.config, side.positions) for side in sides]).tocsr()
        cells = _Fitted(np.concatenate(self._positions()), len(self.reference.positions), self.seed)
        found: dict[str, np.ndarray] = {}
        for name in names:
            try:
                found |= baseline_embeddings([name], cells, counts, width=width, untrained=self._untrained)
            except DataError as problem:
                self._not_made[name] = f"baseline '{name}' cannot be made of the reference: {problem}"
                _log.warning(f"{self.benchmark.expected}: {self._not_made[name]}")
        return found

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
            label_sizes=Counter(self.reference.label_sizes) + Counter(self.query.label_sizes),
        )


def _skipped(record: Record, representation: str, reason: str) -> Record:
    """Return the record of a baseline that there is not, in place of that of the model."""
    return Record(
        benchmark=record.benchmark,
        dataset=record.dataset,
        representation=representation,
        metric=record.metric,
        value=None,
        n_skipped=record.n + record.n_skipped,
        skipped_reason=reason,
        dataset_hash=record.dataset_hash,
        label_key=record.label_key,
        batch_key=record.batch_key,
        params={"seed": record.params.get("seed")},
        library=record.library,
        model_id=record.model_id,
        higher_is_better=record.higher_is_better,
        is_detail=record.is_detail,
    )
