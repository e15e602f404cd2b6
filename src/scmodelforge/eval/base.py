"""What a benchmark gets, what it gives, and how it is found by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.cells import Cells, check_disjoint

__all__ = [
    "Benchmark",
    "BenchmarkInputs",
    "Cells",
    "Record",
    "check_columns",
    "get_benchmark",
    "list_benchmarks",
    "register_benchmark",
]

T = TypeVar("T", bound=type)


@dataclass
class Record:
    """One score with all that is needed to read it. Every field is a plain value that JSON can hold.

    Attributes
    ----------
    benchmark, dataset
        Registered benchmark, and the name of the cells.
    representation
        What was scored: ``model``, ``pca``, ``random``, ``untrained``.
    metric
        The metric with its variant, such as ``nmi_kmeans``.
    value
        The score, or ``None`` if it is not defined here; ``skipped_reason`` then says why.
    interval
        95 % bootstrap interval [low, high] over the scored cells (or perturbations, or transcription factors, where
        these are what is scored), or ``None``.
    group_interval, group_key
        95 % bootstrap interval over whole groups of cells, such as donors or batches, and the obs column of these.
    noise_ceiling
        What a perfect method would reach with as much noise as the data have, or ``None`` if it is not known.
    n, n_skipped, skipped_reason
        Cells scored, cells left out, and why.
    dataset_hash, split_hash, split_seed
        The data and the split.
    label_key, batch_key
        obs columns.
    subsample
        Number of cells the scored ones were chosen from, if not all are scored.
    params
        Settings of the metric: k, distance, seed, resamples and so on.
    tables
        What a score is made of, by name: a confusion matrix, scores of single labels. Plain values.
    library
        What computed it, with versions.
    model_id
        The model's checkpoint.
    baselines
        The same score of other representations of the same cells, by their names; and of constant guesses.
    seconds
        Time the benchmark took on this representation, all its metrics together.
    higher_is_better
        Direction of the metric.
    is_detail
        Whether short tables leave it out.
    step, epoch
        Where training was; ``None`` outside training.
    """

    benchmark: str
    dataset: str
    representation: str
    metric: str
    value: float | None
    interval: list[float] | None = None
    group_interval: list[float] | None = None
    group_key: str | None = None
    noise_ceiling: float | None = None
    n: int = 0
    n_skipped: int = 0
    skipped_reason: str | None = None
    dataset_hash: str | None = None
    split_hash: str | None = None
    split_seed: int | None = None
    label_key: str | None = None
    batch_key: str | None = None
    subsample: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    library: str = ""
    model_id: str | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    higher_is_better: bool = True
    is_detail: bool = False
    step: int | None = None
    epoch: int | None = None

    @property
    def key(self) -> str:
        """Name in logs and tables: ``eval/<benchmark>/<dataset>/<metric>``."""
        return f"eval/{self.benchmark}/{self.dataset}/{self.metric}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Return the record that :meth:`to_dict` described.

        Raises
        ------
        DataError
            If a field is unknown, or one without a default is missing.
        """
        unknown = sorted(set(data) - {each.name for each in fields(cls)})
        missing = sorted({"benchmark", "dataset", "representation", "metric", "value"} - set(data))
        if unknown or missing:
            what = f"unknown field '{unknown[0]}'" if unknown else f"no field '{missing[0]}'"
            msg = f"not a result record of this version: {what}; read it with the version that wrote it."
            raise DataError(msg)
        return cls(**data)


@dataclass(frozen=True, slots=True)
class BenchmarkInputs:
    """Everything a benchmark may need: one representation of one set of cells.

    Attributes
    ----------
    dataset, dataset_hash
        Name and content hash of the data.
    train, heldout
        Cells that may be fitted on, and cells that are scored. No cell may be in both.
    representation, model_id
        What the embeddings are, and of which model.
    label_key, batch_key, group_key, split_hash, split_seed
        As in :class:`Record`.
    seed
        Seed of probes, clusterings and intervals.
    predictions
        What a model predicts for the held-out cells, as the benchmark that needs it defines: probabilities of labels,
        expression after perturbations.
    gene_embeddings
        Vectors of genes.
    model
        Access to the model itself, for what cannot be computed beforehand. Each is ``None`` where there is none.
    reference
        The held-out cells before any integration, in the order of ``heldout``, shape (n, P): principal components of
        their log-normalised counts. ``None`` where there are none.
    counts
        Reads the counts of the held-out cells, in the order of ``heldout``, CSR (n, G): for baselines that a benchmark
        makes itself. ``None`` where there are none.
    label_sizes
        Number of cells of each label in the data that both parts were chosen from; ``None`` if these are all.

    Raises
    ------
    DataError
        If a held-out cell is a training cell, the two parts differ in width, an embedding is not finite, or the
        reference is not of the held-out cells.
    """

    dataset: str
    train: Cells
    heldout: Cells
    representation: str = "model"
    dataset_hash: str | None = None
    label_key: str | None = None
    batch_key: str | None = None
    group_key: str | None = None
    split_hash: str | None = None
    split_seed: int | None = None
    seed: int = 0
    model_id: str | None = None
    predictions: Any = None
    gene_embeddings: Any = None
    model: Any = None
    reference: np.ndarray | None = None
    counts: Callable[[], Any] | None = None
    label_sizes: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        widths = self.train.embeddings.shape[1], self.heldout.embeddings.shape[1]
        if widths[0] != widths[1]:
            msg = (
                f"training embeddings have {widths[0]} columns and held-out ones {widths[1]}; both need the same model."
            )
            raise DataError(msg)
        check_disjoint(self.train, self.heldout)
        for part in (self.train, self.heldout):
            part.check_finite(self.representation)
        if self.reference is not None:
            if len(self.reference) != len(self.heldout):
                msg = f"{len(self.reference):,} reference rows for {len(self.heldout):,} held-out cells; give one each."
                raise DataError(msg)
            Cells(self.reference).check_finite("reference")

    def record(self, benchmark: str, metric: str, value: float | None, *, library: str, **others: Any) -> Record:
        """Return a record of these cells; ``others`` are further fields of :class:`Record`."""
        if value is None or math.isnan(value):
            others["skipped_reason"] = others.get("skipped_reason") or "it is not defined for these cells"
        return Record(
            benchmark=benchmark,
            dataset=self.dataset,
            representation=self.representation,
            metric=metric,
            value=None if value is None or math.isnan(value) else float(value),
            dataset_hash=self.dataset_hash,
            split_hash=self.split_hash,
            split_seed=self.split_seed,
            label_key=self.label_key,
            batch_key=self.batch_key,
            library=f"scmodelforge {__version__}; {library}",
            model_id=self.model_id,
            **others,
        )


@runtime_checkable
class Benchmark(Protocol):
    """A benchmark: made from its settings, run on one representation at a time.

    Attributes
    ----------
    config_class
        Its settings.
    needs
        What it uses, of ``embeddings``, ``predictions``, ``gene_embeddings``, ``model``.
    columns
        obs columns it cannot do without, of ``label`` and ``batch``.
    """

    config_class: ClassVar[type[BenchmarkConfig]]
    needs: ClassVar[frozenset[str]]
    columns: ClassVar[frozenset[str]]

    def __init__(self, config: BenchmarkConfig) -> None: ...

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Return one record for each metric, also for those that are not defined on these cells."""
        ...


def register_benchmark(name: str) -> Callable[[T], T]:
    """Return a class decorator that registers a benchmark under a name."""
    return BENCHMARKS.register(name)


def get_benchmark(name: str) -> type[Benchmark]:
    """Return the benchmark registered under a name.

    Raises
    ------
    ConfigError
        If there is none; the message lists those there are.
    """
    return BENCHMARKS.get(name)


def list_benchmarks() -> list[str]:
    """Return the names of all benchmarks, sorted."""
    return BENCHMARKS.names()


def check_columns(name: str, *, label_key: str | None, batch_key: str | None) -> None:
    """Make sure that a benchmark has the obs columns it needs, before anything is computed.

    Raises
    ------
    ConfigError
        If one is not set.
    """
    given = {"label": label_key, "batch": batch_key}
    for column in sorted(get_benchmark(name).columns):
        if given[column] is None:
            msg = (
                f"benchmark '{name}' needs a {column} column, and none is set; "
                f"set data.{column}_column (or '{column}' of the benchmark) to an obs column."
            )
            raise ConfigError(msg)
