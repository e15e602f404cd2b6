"""From settings to data that can be trained on: source, split, vocabulary, fitted tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge import datasets
from scmodelforge._errors import DataError
from scmodelforge._registry import SOURCES, TOKENIZERS
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.parts import tokenizer_fact
from scmodelforge.config.schema import DataConfig, RunConfig, TrainingConfig
from scmodelforge.data.cached import CachedCells, cached_cells
from scmodelforge.data.cell_sketch import CellIdentities, CellSketch, Shared, SketchVisitor
from scmodelforge.data.filters import CellLimits
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.scan import scan
from scmodelforge.data.selection import choose_cells
from scmodelforge.data.sources.mixture import MixtureDataConfig
from scmodelforge.data.splits import CellSplit
from scmodelforge.data.training_order import describe_sampling
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.workflows.base_cells import BaseCells
from scmodelforge.workflows.cell_labels import CellLabels, learned_labels, set_label_sizes
from scmodelforge.workflows.fitting import visitor_of
from scmodelforge.workflows.usable_cells import membership, warn_of_repeated, without_unusable
from scmodelforge.workflows.vocabulary import build_vocab, check_vocab_size, chooses_genes, require_genes, select_genes

if TYPE_CHECKING:
    from scmodelforge.finetuning.base import Task

__all__ = [
    "PreparedData",
    "Readable",
    "check_resumable",
    "keep_preprocessed",
    "open_source",
    "prepare_data",
    "sequential_loader",
    "with_data_sets",
]

_log = logging.getLogger(__name__)
_SCHEME = "dataset://"


@dataclass
class Readable:
    """What a loader needs: cells, what is done to them, and what makes tokens of them."""

    source: CellSource
    tokenizer: Any
    preprocessor: Callable[[CellBlock], CellBlock]

    def ready(self) -> tuple[CellSource, Callable[[CellBlock], CellBlock]]:
        """Return where a loader reads cells, and what is left to do to them."""
        return self.source, self.preprocessor


@dataclass
class PreparedData(Readable):
    """Data that passed every check, with all that was fitted on the training cells.

    Attributes
    ----------
    vocab
        The vocabulary token ids belong to.
    split
        Training and held-out cells, empty cells in neither.
    num_empty
        Cells left out because they express no gene of the vocabulary.
    num_dropped
        Cells left out because they break a limit of ``data.preprocessing``.
    kept
        The cells after preprocessing, from ``data.preprocessing.cache``.
    labels
        Labels of cells that the model learns from.
    trained_cells
        What tells which cells a model is trained on; ``None`` if that is not known.
    repeated
        How many held-out cells of data that a model is trained on are training cells as well, if that is known.
    looked_for
        Identities of all cells of data that a model is only evaluated on, to be looked for among these.
    task
        The task of fine-tuning that learns from them, if there is one.
    base_cells
        How many held-out cells its base model was trained on, if that is known.
    base_scored
        The same of the cells that the task scores beside these.
    """

    preprocessor: Preprocessor
    vocab: GeneVocab
    split: CellSplit
    num_empty: int
    num_dropped: int = 0
    kept: CachedCells | None = None
    labels: dict[str, CellLabels] = field(default_factory=dict)
    trained_cells: CellSketch | None = None
    repeated: Shared | None = None
    looked_for: CellIdentities | None = None
    task: Task | None = None
    base_cells: Shared | None = None
    base_scored: Shared | None = None

    def ready(self) -> tuple[CellSource, Callable[[CellBlock], CellBlock]]:
        """Return the cells from the cache, if there is one."""
        return super().ready() if self.kept is None else (self.kept, _unchanged)


def open_source(config: DataConfig, vocab: GeneVocab | None = None) -> CellSource:
    """Open the source of the settings; ``dataset://NAME`` in ``data.paths`` stands for a registered data set.

    For a model that there is already, those gene ids of files are read that its vocabulary has most genes of.
    """
    source: CellSource = SOURCES.get(config.source)(with_data_sets(config))
    if vocab is not None and hasattr(source, "choose_gene_ids"):
        source.choose_gene_ids(vocab)
    return source


def prepare_data(config: RunConfig, task: Task | None = None) -> PreparedData:
    """Open, check and split the data and fit what learns from training cells; fill in settings that follow from them.

    All is done in one streaming pass; one more before it where genes are chosen (``hvg_selection``,
    ``min_cells_per_gene``), one more after it for size factors (``normalize: scran``). Cells that break a limit of
    ``data.preprocessing`` are taken out first, then genes in too few of the remaining training cells, then those
    that are not variable.

    Parameters
    ----------
    config
        Settings of the run, which are filled in.
    task
        A task of fine-tuning: the vocabulary and the tokenizer of its base model are taken, and nothing is fitted.

    Raises
    ------
    DataError, ConfigError
        For everything a user can get wrong about data, before anything is written.
    """
    base = None if task is None else task.base
    source = open_source(config.data, None if base is None else base.vocab)
    for line in getattr(source, "describe", list)():
        _log.info(line)
    check_columns(config, source)
    vocab = build_vocab(config.data, source) if base is None else base.vocab
    if base is not None:
        require_genes(vocab, source, name="the vocabulary of the base model")
    preprocessing = config.data.preprocessing
    if config.model.vocab_size is not None and not chooses_genes(preprocessing):
        check_vocab_size(config, vocab)
    split = choose_cells(source, config.data.split, expression=config.data.filter)
    if task is not None:
        split = task.choose_cells(config, source, split)
    preprocessor = Preprocessor(preprocessing)
    if hasattr(source, "kind"):
        for number, panel in enumerate(source.panels):
            preprocessor.check(source.kind(number).kind, name=panel.name)
    expects = tokenizer_fact(config.tokenizer, "expects", "any")
    is_train = membership(split.train)
    vocab = select_genes(preprocessing, source, vocab, is_train, expects=expects)
    tokenizer: Any = _fresh_tokenizer(config, vocab) if base is None else base.tokenizer
    vocab = tokenizer.vocab  # genes without a given vector may have no token
    check_vocab_size(config, vocab)
    visitor = visitor_of(tokenizer, is_train, preprocessor) if base is None else None
    known = None if base is None else BaseCells(base, source)
    genes = None if known is None else known.genes
    learned = split.train if task is None else np.union1d(split.train, task.also_trained(config, source))
    sketching = SketchVisitor(vocab, source.panels, membership(learned), membership(split.validation), genes=genes)
    visitors: list[Any] = [sketching, *filter(None, [visitor]), *(known.visitors if known else [])]
    limits = CellLimits(preprocessing)
    report = scan(source, vocab, expects=expects, visitors=visitors, limits=limits)
    split, num_empty, num_dropped = without_unusable(split, report, limits)
    if visitor is not None:
        visitor.finish()
    trained_cells, repeated = sketching.finish()
    warn_of_repeated(repeated)
    _log.info(split.describe())
    sampling = describe_sampling(source, split.train, config.data, global_batch_size=global_batch_size(config.training))
    if sampling is not None:
        _log.info(sampling)
    _log.info(tokenizer.describe())
    labels = learned_labels(config, source, split.train)
    preprocessor, kept = keep_preprocessed(source, config.data, preprocessor)
    config.model.vocab_size = len(vocab)
    set_label_sizes(config.model, labels)
    data = PreparedData(
        source, tokenizer, preprocessor, vocab, split, num_empty, num_dropped, kept, labels, trained_cells, repeated
    )
    data.task = task
    if task is not None and known is not None:
        data.base_cells = known.held_out(split.validation, task.config.base_model)
        data.base_scored = known.scored(task.also_scored(config, source))
        data.trained_cells = known.with_own(trained_cells)
        task.read(config, data, reopen=partial(open_source, vocab=vocab))
        task.prepare(config, data)
    return data


def _fresh_tokenizer(config: RunConfig, vocab: GeneVocab) -> Any:
    make: Any = TOKENIZERS.get(config.tokenizer.strategy)
    return make(config.tokenizer, vocab)


def keep_preprocessed(
    source: CellSource, config: DataConfig, preprocessor: Preprocessor
) -> tuple[Preprocessor, CachedCells | None]:
    """Return a preprocessor for the cells of a source, and the preprocessed cells if the settings name a cache."""
    if config.preprocessing.cache is None:
        return preprocessor.fitted(source), None
    folder = Path(config.preprocessing.cache)
    return preprocessor, cached_cells(source, config, folder, fitted=lambda: preprocessor.fitted(source))


def sequential_loader(
    data: Readable,
    positions: np.ndarray,
    *,
    collate: Callable[[Any], Any],
    config: DataConfig,
    batch_size: int,
    seed: int,
) -> CellLoader:
    """Return a loader of the given cells in the order of their positions, on one device."""
    order = GlobalOrder(
        data.source.file_sizes,
        positions,
        seed=seed,
        block_size=config.block_size,
        buffer_size=config.buffer_size,
        num_streams=1,
        shuffle=False,
    )
    source, preprocess = data.ready()
    return CellLoader(
        source,
        data.tokenizer,
        preprocess,
        order,
        batch_size=batch_size,
        num_workers=config.num_workers,
        seed=seed,
        collate=collate,
    )


def check_resumable(source: CellSource, facts: dict[str, Any]) -> None:
    """Refuse to resume on data that are not those the run was started with.

    Raises
    ------
    DataError
        If a file's content changed since.
    """
    before = {entry["name"]: entry["sha256"] for entry in facts["data"]}
    for entry in source.fingerprint():
        if before.get(entry["name"]) != entry["sha256"]:
            msg = f"{entry['name']} is not the file the run was started with; restore it, or start a new run."
            raise DataError(msg)


def with_data_sets(config: DataConfig) -> DataConfig:
    """Return the settings with the files of registered data sets in place of their names."""
    changes: dict[str, Any] = {}
    if hasattr(config, "paths"):
        changes["paths"] = [
            str(datasets.path(path.removeprefix(_SCHEME))) if path.startswith(_SCHEME) else path
            for path in config.paths
        ]
    if isinstance(config, MixtureDataConfig):
        changes["sources"] = [with_data_sets(entry) for entry in config.sources]
    return config.model_copy(update=changes)


def check_columns(config: RunConfig, source: CellSource) -> None:
    """Read every obs column the settings name, so that a missing one stops the run before it starts."""
    columns = [config.data.label_column, config.data.batch_column]
    if config.data.preprocessing.hvg_selection is not None:
        columns.append(config.data.preprocessing.hvg_batch_column)
    for benchmark in config.eval.benchmarks:
        if benchmark.dataset is None:
            columns += [benchmark.label, benchmark.batch]
    for column in dict.fromkeys(column for column in columns if column is not None):
        source.obs(column)


def global_batch_size(config: TrainingConfig) -> int:
    """Return the cells of an optimiser step, over all devices."""
    if config.global_batch_size is not None:
        return config.global_batch_size
    return known_batch_size(config) * config.gradient_accumulation * config.devices * config.num_nodes


def _unchanged(block: CellBlock) -> CellBlock:
    return block
