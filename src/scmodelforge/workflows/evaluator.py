"""Scores a model on sets of cells beside PCA, random and untrained embeddings of the same cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig, DataConfig
from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, check_columns
from scmodelforge.eval.baselines import CountMatrix, pca_embedding, random_embedding
from scmodelforge.eval.harness import evaluate, stratified_subsample
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows._obs_text import ObsColumn
from scmodelforge.workflows.prepare import PreparedData, Readable, sequential_loader
from scmodelforge.workflows.team import Team
from scmodelforge.workflows.views import CellViews, SeenCells

__all__ = ["EvaluationSet", "Evaluator"]

_PCA_COMPONENTS = 50


@dataclass
class EvaluationSet:
    """Cells that benchmarks are run on.

    Attributes
    ----------
    name
        Name in the results.
    data
        Source, tokenizer and preprocessing; its split says which cells probes are fitted on and which are scored.
    config
        How the source is read.
    benchmarks
        What is run.
    """

    name: str
    data: PreparedData
    config: DataConfig
    benchmarks: list[BenchmarkConfig]


class Evaluator:
    """Scores a model on sets of cells. The cells and the baselines' embeddings are computed once and kept.

    Parameters
    ----------
    sets
        The cells and what is run on them.
    untrained
        Makes the model before training.
    max_cells
        Most cells of each part, subsampled by label.
    batch_size
        Cells of a forward pass.
    seed
        Seed of subsamples, probes and intervals.
    """

    def __init__(
        self,
        sets: Sequence[EvaluationSet],
        *,
        untrained: Callable[[], nn.Module],
        max_cells: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._untrained, self._batch_size, self._seed = untrained, batch_size, seed
        self._sets = [_Prepared.of(each, max_cells=max_cells, seed=seed) for each in sets]
        self._baselines: dict[str, dict[str, np.ndarray]] = {}
        self._scored: dict[str, list[Record]] = {}
        self._last: dict[str, np.ndarray] = {}

    def evaluate(
        self,
        model: nn.Module,
        *,
        model_id: str,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
        team: Team | None = None,
    ) -> list[Record]:
        """Return the records of the model and of the baselines on all sets; of a team, the first process gets them."""
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
        """Embed the cells of all sets, by all processes of a team, for :meth:`score`; the first time, by the baselines.

        Those that need no model are left to the process that scores.
        """
        team = team or Team.alone(device)
        where = {"device": device, "autocast": autocast}
        for each in self._sets:
            self._last[each.name] = self._embed(each, model, team, where)
            if each.name not in self._baselines:
                untrained = self._embed(each, team.place(self._untrained), team, where)
                self._baselines[each.name] = {"untrained": untrained}

    def score(self, model_id: str) -> list[Record]:
        """Return the records of the model that embedded the cells last, and of the baselines; no model is needed."""
        records: list[Record] = []
        for each in self._sets:
            found = self._baselines[each.name]
            if set(found) == {"untrained"}:
                self._baselines[each.name] = self._embed_baselines(each, found["untrained"])
            records += self._score(each, self._last[each.name], model_id)
        return records

    def _score(self, each: _Prepared, vectors: np.ndarray, model_id: str) -> list[Record]:
        """Return the records of a set. The baselines never change, so they are scored once."""
        inputs = {"model": each.inputs(vectors, "model", model_id, self._seed)}
        if each.name in self._scored:
            found = evaluate(each.benchmarks, inputs)
            baselines = [replace(record, model_id=model_id) for record in self._scored[each.name]]
            for record in found:
                record.baselines |= {
                    other.representation: other.value
                    for other in baselines
                    if other.key == record.key and other.value is not None
                }
            return [*found, *baselines]
        for name, rows in self._baselines[each.name].items():
            inputs[name] = each.inputs(rows, name, model_id, self._seed)
        found = evaluate(each.benchmarks, inputs)
        self._scored[each.name] = [replace(record) for record in found if record.representation != "model"]
        return found

    def seen(self) -> SeenCells | None:
        """Return the held-out cells of the first set that has labels, else of the first, as last evaluated."""
        known = [each for each in self._sets if each.name in self._last]
        each = next((each for each in known if each.labels is not None), known[0] if known else None)
        if each is None:
            return None
        held = slice(each.num_train, None)
        return SeenCells(
            dataset=each.name,
            model=self._last[each.name][held],
            baselines={name: rows[held] for name, rows in self._baselines[each.name].items()},
            labels=None if each.labels is None else each.labels[held],
            batches=None if each.batches is None else each.batches[held],
            label_key=each.label_key,
            batch_key=each.batch_key,
        )

    def data(self) -> dict[str, PreparedData]:
        """Return the data of each set, by its name."""
        return {each.name: each.data for each in self._sets}

    def views(self) -> CellViews | None:
        """Return the cells of :meth:`seen` for a picture, if they have labels."""
        seen = self.seen()
        return None if seen is None else seen.views()

    def _embed(self, each: _Prepared, model: nn.Module, team: Team, where: dict[str, Any]) -> np.ndarray:
        pad_id = each.data.vocab.pad_id

        @contextmanager
        def batches_of(positions: np.ndarray) -> Iterator[Iterable[Any]]:
            with sequential_loader(
                each.data,
                positions,
                collate=lambda tokens: collate_for_encoding(tokens, pad_id=pad_id),
                config=each.config,
                batch_size=self._batch_size,
                seed=self._seed,
            ) as loader:
                yield (batch for group in loader.one_pass() for batch in group)

        positions = np.sort(each.positions)
        ordered = team.embed(model, batches_of, positions=positions, batch_size=self._batch_size, **where)
        return ordered[np.searchsorted(positions, each.positions)]

    def _embed_baselines(self, each: _Prepared, untrained: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "pca": pca_embedding(
                each.counts(), num_train=each.num_train, n_components=_PCA_COMPONENTS, seed=self._seed
            ),
            "random": random_embedding(each.positions, untrained.shape[1], seed=self._seed),
            "untrained": untrained,
        }


@dataclass
class _Prepared:
    """The cells of a set that take part: those that probes are fitted on, then those that are scored."""

    name: str
    data: PreparedData
    config: DataConfig
    benchmarks: list[Any]
    positions: np.ndarray
    num_train: int
    labels: np.ndarray | None
    batches: np.ndarray | None
    label_key: str | None
    batch_key: str | None
    data_hash: str
    split_hash: str

    @classmethod
    def of(cls, each: EvaluationSet, *, max_cells: int, seed: int) -> _Prepared:
        """Choose the cells and read their labels and batches."""
        label_key = _one_key(each, "label")
        batch_key = _one_key(each, "batch")
        labels = ObsColumn.of(each.data, label_key)
        batches = ObsColumn.of(each.data, batch_key)
        split = each.data.split
        parts = []
        for part in (split.train, split.validation):
            codes = labels.codes[part] if labels is not None else np.zeros(len(part), dtype=np.int32)
            parts.append(part[stratified_subsample(codes, max_cells, seed)])
        positions = np.concatenate(parts)
        return cls(
            name=each.name,
            data=each.data,
            config=each.config,
            benchmarks=[_checked(config) for config in each.benchmarks],
            positions=positions,
            num_train=len(parts[0]),
            labels=None if labels is None else labels.text(positions),
            batches=None if batches is None else batches.text(positions),
            label_key=label_key,
            batch_key=batch_key,
            data_hash=_hash([entry["sha256"] for entry in each.data.source.fingerprint()]),
            split_hash=split.to_dict()["hash"],
        )

    def inputs(self, vectors: np.ndarray, representation: str, model_id: str, seed: int) -> BenchmarkInputs:
        """Return what a benchmark gets for one representation of the cells."""

        def part(rows: slice) -> Cells:
            return Cells(
                embeddings=vectors[rows],
                labels=None if self.labels is None else self.labels[rows],
                batches=None if self.batches is None else self.batches[rows],
                positions=self.positions[rows],
            )

        return BenchmarkInputs(
            dataset=self.name,
            dataset_hash=self.data_hash,
            train=part(slice(None, self.num_train)),
            heldout=part(slice(self.num_train, None)),
            label_key=self.label_key,
            batch_key=self.batch_key,
            split_hash=self.split_hash,
            split_seed=self.data.split.seed,
            seed=seed,
            representation=representation,
            model_id=model_id,
        )

    def counts(self) -> Any:
        """Return the counts of the cells over the vocabulary's genes, CSR (n, number of genes)."""
        matrix = CountMatrix(self.data.vocab)
        order = np.argsort(self.positions)
        with sequential_loader(
            Readable(self.data.source, matrix, _unchanged),
            self.positions[order],
            collate=lambda tokens: tokens,
            config=self.config,
            batch_size=1024,
            seed=0,
        ) as loader:
            blocks = [block for group in loader.one_pass() for block in group]
        return matrix.stack(blocks)[np.argsort(order)]


def _checked(config: BenchmarkConfig) -> Any:
    check_columns(config.name, label_key=config.label, batch_key=config.batch)
    return BENCHMARKS.get(config.name)(config)


def _one_key(each: EvaluationSet, field_name: str) -> str | None:
    keys = {getattr(benchmark, field_name) for benchmark in each.benchmarks} - {None}
    if len(keys) > 1:
        msg = (
            f"eval.benchmarks name several {field_name} columns for the same cells ({', '.join(sorted(keys))}); "
            "use one, or evaluate the others with: scmodelforge evaluate RUN --" + field_name
        )
        raise ConfigError(msg)
    return next(iter(keys), None)


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _unchanged(block: Any) -> Any:
    return block
