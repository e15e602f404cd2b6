"""The cells that a model is scored on: chosen once, with their labels, batches and groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig, DataConfig
from scmodelforge.eval.base import BenchmarkInputs, Cells, Record, check_columns
from scmodelforge.eval.harness import MODEL, evaluate, stratified_subsample
from scmodelforge.workflows._obs_text import ObsColumn
from scmodelforge.workflows.gene_vectors import GeneInputs
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import read_counts
from scmodelforge.workflows.trained_cells import trained_params

__all__ = ["EvaluationSet", "ScoredCells", "hash_of"]


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


@dataclass
class ScoredCells:
    """The cells of a set that take part: those that probes are fitted on, then those that are scored.

    Attributes
    ----------
    name, data, config
        As of :class:`EvaluationSet`.
    benchmarks, benchmark_names
        What is run, ready to run, and what it is registered as.
    positions
        Positions in the source: ``num_train`` training cells, then held-out ones, each part ascending.
    num_train
        How many are training cells.
    num_heldout_there
        Held-out cells that the scored ones were chosen from.
    labels, batches, groups
        Shape (n,), str, empty where missing; ``None`` without such a column. Whole groups were held out; without a
        split by groups these are the batches.
    label_key, batch_key, group_key
        The columns.
    data_hash, split_hash
        Of the data and the split.
    seed
        Seed of the choice.
    label_sizes
        Cells of each label among all that could have been chosen; ``None`` without labels.
    reference
        Principal components of the counts of all cells, shape (n, C), once they are known.
    """

    name: str
    data: PreparedData
    config: DataConfig
    benchmarks: list[Any]
    benchmark_names: list[str]
    positions: np.ndarray
    num_train: int
    num_heldout_there: int
    labels: np.ndarray | None
    batches: np.ndarray | None
    groups: np.ndarray | None
    label_key: str | None
    batch_key: str | None
    group_key: str | None
    data_hash: str
    split_hash: str
    seed: int
    label_sizes: dict[str, int] | None = None
    reference: np.ndarray | None = None

    @classmethod
    def of(cls, each: EvaluationSet, *, max_cells: int, seed: int) -> ScoredCells:
        """Choose the cells and read their labels and batches."""
        label_key = _one_key(each, "label")
        batch_key = _one_key(each, "batch")
        split = each.data.split
        group_key = split.by if split.by in each.data.source.obs_columns else batch_key
        labels = ObsColumn.of(each.data, label_key)
        texts = [ObsColumn.of(each.data, key) for key in (batch_key, group_key)]
        parts = []
        for part in (split.train, split.validation):
            codes = labels.codes[part] if labels is not None else np.zeros(len(part), dtype=np.int32)
            parts.append(part[stratified_subsample(codes, max_cells, seed)])
        positions = np.concatenate(parts)
        batches, groups = (None if column is None else column.text(positions) for column in texts)
        return cls(
            name=each.name,
            data=each.data,
            config=each.config,
            benchmarks=[_checked(config) for config in each.benchmarks],
            benchmark_names=[config.name for config in each.benchmarks],
            positions=positions,
            num_train=len(parts[0]),
            num_heldout_there=len(split.validation),
            labels=None if labels is None else labels.text(positions),
            batches=batches,
            groups=groups,
            label_key=label_key,
            batch_key=batch_key,
            group_key=group_key,
            data_hash=hash_of([entry["sha256"] for entry in each.data.source.fingerprint()]),
            split_hash=split.to_dict()["hash"],
            seed=seed,
            label_sizes=None if labels is None else labels.sizes(np.concatenate([split.train, split.validation])),
        )

    @property
    def uses_reference(self) -> bool:
        """Whether a benchmark compares embeddings with the cells before integration."""
        return any(getattr(made, "uses_reference", False) for made in self.benchmarks)

    def inputs(
        self,
        vectors: np.ndarray,
        representation: str,
        model_id: str | None = None,
        *,
        predictions: Any = None,
        genes: GeneInputs | None = None,
    ) -> BenchmarkInputs:
        """Return what a benchmark gets for one representation of the cells."""

        def part(rows: slice) -> Cells:
            return Cells(
                embeddings=vectors[rows],
                labels=None if self.labels is None else self.labels[rows],
                batches=None if self.batches is None else self.batches[rows],
                groups=None if self.groups is None else self.groups[rows],
                positions=self.positions[rows],
            )

        return BenchmarkInputs(
            dataset=self.name,
            dataset_hash=self.data_hash,
            train=part(slice(None, self.num_train)),
            heldout=part(slice(self.num_train, None)),
            label_key=self.label_key,
            batch_key=self.batch_key,
            group_key=self.group_key,
            split_hash=self.split_hash,
            split_seed=self.data.split.seed,
            seed=self.seed,
            representation=representation,
            model_id=model_id,
            reference=None if self.reference is None else self.reference[self.num_train :],
            predictions=predictions,
            counts=lambda: self.counts(self.positions[self.num_train :]),
            gene_embeddings=None if genes is None else genes.vectors,
            model=None if genes is None else genes.model,
            label_sizes=self.label_sizes,
        )

    def score(
        self,
        representations: Mapping[str, np.ndarray],
        model_id: str,
        *,
        predictions: Any = None,
        genes: Mapping[str, GeneInputs] | None = None,
    ) -> list[Record]:
        """Return the records of several embeddings of the cells, by name, each shape (n, H).

        ``predictions`` are what the model among them predicts for the held-out cells, ``genes`` what is known of genes
        in those that are of models.
        """
        own = {MODEL: predictions}
        inputs = {
            name: self.inputs(vectors, name, model_id, predictions=own.get(name), genes=(genes or {}).get(name))
            for name, vectors in representations.items()
        }
        records = evaluate(self.benchmarks, inputs)
        known = trained_params(self.data)
        for record in records:
            record.params |= known
        num_scored = len(self.positions) - self.num_train
        if num_scored < self.num_heldout_there:
            for record in records:
                record.subsample = self.num_heldout_there
                record.params["subsample_size"] = num_scored
                record.params.setdefault("subsample_seed", self.seed)
        return records

    def counts(self, positions: np.ndarray | None = None) -> Any:
        """Return the counts of the cells, or of some of them, over the vocabulary's genes, CSR (n, number of genes)."""
        return read_counts(self.data, self.config, self.positions if positions is None else positions)


def _checked(config: BenchmarkConfig) -> Any:
    check_columns(config.name, label_key=config.label, batch_key=config.batch)
    made: Any = BENCHMARKS.get(config.name)(config)
    if "predictions" in made.needs:
        msg = (
            f"benchmark '{config.name}' scores predictions of perturbations, which this run does not make; take it out "
            "of eval.benchmarks, and score a file of them: scmodelforge evaluate --predictions FILE --data REAL "
            f"--eval {config.name}"
        )
        raise ConfigError(msg)
    return made


def _one_key(each: EvaluationSet, field_name: str) -> str | None:
    keys = {getattr(benchmark, field_name) for benchmark in each.benchmarks} - {None}
    if len(keys) > 1:
        msg = (
            f"eval.benchmarks name several {field_name} columns for the same cells ({', '.join(sorted(keys))}); "
            "use one, or evaluate the others with: scmodelforge evaluate RUN --" + field_name
        )
        raise ConfigError(msg)
    return next(iter(keys), None)


def hash_of(parts: Sequence[str]) -> str:
    """Return the hash of data sets, of the hashes of their files."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
