"""From settings to data that can be trained on: source, split, vocabulary, fitted tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from scmodelforge import datasets
from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import SOURCES, TOKENIZERS
from scmodelforge.config.schema import DataConfig, PreprocessingConfig, RunConfig
from scmodelforge.data.hvg import HighlyVariable
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.scan import scan
from scmodelforge.data.splits import CellSplit, split_cells
from scmodelforge.data.types import CellBlock, CellSource
from scmodelforge.data.vocab import GeneVocab

__all__ = [
    "PreparedData",
    "Readable",
    "check_resumable",
    "config_hash",
    "open_source",
    "prepare_data",
    "sequential_loader",
]

_log = logging.getLogger(__name__)
_SCHEME = "dataset://"
_PLACEMENT = (
    ("data", "paths"),
    ("data", "num_workers"),
    ("training", "accelerator"),
    ("training", "devices"),
    ("training", "num_nodes"),
    ("training", "strategy"),
    ("training", "log_every_n_steps"),
)


@dataclass
class Readable:
    """What a loader needs: cells, what is done to them, and what makes tokens of them."""

    source: CellSource
    tokenizer: Any
    preprocessor: Callable[[CellBlock], CellBlock]


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
    """

    vocab: GeneVocab
    split: CellSplit
    num_empty: int


def config_hash(config: RunConfig) -> str:
    """Return the sha256 of the settings that make a run what it is.

    Left out are where it runs and where things lie: output, paths (the data have a hash of their own), plugins'
    places, devices, threads and how often is logged.
    """
    settings = config.to_dict()
    settings.pop("output")
    settings["plugins"] = [name.rpartition("/")[2] for name in settings["plugins"]]
    for section, key in _PLACEMENT:
        settings[section].pop(key, None)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def open_source(config: DataConfig) -> CellSource:
    """Open the source of the settings; ``dataset://NAME`` in ``data.paths`` stands for a registered data set."""
    paths = getattr(config, "paths", None)
    if paths is not None:
        resolved = [str(datasets.path(p.removeprefix(_SCHEME))) if p.startswith(_SCHEME) else p for p in paths]
        config = config.model_copy(update={"paths": resolved})
    source: CellSource = SOURCES.get(config.source)(config)
    return source


def prepare_data(config: RunConfig) -> PreparedData:
    """Open, check and split the data and fit the tokenizer, in one streaming pass (two with ``hvg_selection``).

    Raises
    ------
    DataError, ConfigError
        For everything a user can get wrong about data, before anything is written.
    """
    source = open_source(config.data)
    for line in getattr(source, "describe", list)():
        _log.info(line)
    check_columns(config, source)
    vocab = build_vocab(config.data.gene_vocab, source)
    if config.model.vocab_size is not None and config.data.preprocessing.hvg_selection is None:
        check_vocab_size(config, vocab)
    split = split_cells(source, config.data.split, excluded=np.zeros(0, dtype=np.int64))
    preprocessor = Preprocessor(config.data.preprocessing)
    if hasattr(source, "kind"):
        for number, panel in enumerate(source.panels):
            preprocessor.check(source.kind(number).kind, name=panel.name)
    tokenizer_class: Any = TOKENIZERS.get(config.tokenizer.strategy)
    is_train = membership(split.train)
    vocab = select_genes(config.data.preprocessing, source, vocab, is_train, expects=tokenizer_class.expects)
    check_vocab_size(config, vocab)
    tokenizer = tokenizer_class(config.tokenizer, vocab)
    visitor = tokenizer.visitor(is_train)
    visitors = [] if visitor is None else [visitor]
    report = scan(source, vocab, expects=tokenizer_class.expects, visitors=visitors)
    if visitor is not None:
        visitor.finish()
    for warning in report.warnings:
        _log.warning(warning)
    if len(report.empty):
        _log.info(f"skipped {len(report.empty):,} of {report.num_cells:,} cells: no gene of the vocabulary in them")
        split = without(split, report.empty)
    _log.info(split.describe())
    _log.info(tokenizer.describe())
    return PreparedData(source, tokenizer, preprocessor, vocab, split, len(report.empty))


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
    return CellLoader(
        data.source,
        data.tokenizer,
        data.preprocessor,
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


def build_vocab(setting: str | list[str], source: CellSource) -> GeneVocab:
    """Make the vocabulary of ``data.gene_vocab`` and check that every file shares genes with it."""
    if isinstance(setting, list):
        vocab = GeneVocab.from_genes(setting, name="data.gene_vocab")
    elif setting == "from_data":
        vocab = GeneVocab.from_panels(source.panels)
    elif setting == "human_protein_coding":
        vocab = GeneVocab.from_name(setting)
    else:
        vocab = GeneVocab.from_file(setting)
    for panel in source.panels:
        coverage = vocab.require_overlap(panel)
        _log.info(f"{panel.name}: {coverage.known:,} of {coverage.total:,} genes are in gene_vocab '{vocab.name}'")
    return vocab


def select_genes(
    config: PreprocessingConfig,
    source: CellSource,
    vocab: GeneVocab,
    is_train: Callable[[np.ndarray], np.ndarray],
    *,
    expects: Literal["counts", "any"],
) -> GeneVocab:
    """Restrict the vocabulary to the highly variable genes of the training cells, if the settings ask for it."""
    if config.hvg_selection is None:
        return vocab
    variable = HighlyVariable(vocab, config.hvg_selection, rows=is_train)
    scan(source, vocab, expects=expects, visitors=[variable])
    selected = variable.select()
    _log.info(f"{len(selected):,} highly variable genes selected over {variable.num_cells:,} training cells")
    return vocab.restrict(selected)


def check_columns(config: RunConfig, source: CellSource) -> None:
    """Read every obs column the settings name, so that a missing one stops the run before it starts."""
    columns = [config.data.label_column, config.data.batch_column]
    for benchmark in config.eval.benchmarks:
        if benchmark.dataset is None:
            columns += [benchmark.label, benchmark.batch]
    for column in dict.fromkeys(column for column in columns if column is not None):
        source.obs(column)


def check_vocab_size(config: RunConfig, vocab: GeneVocab) -> None:
    """Refuse a ``model.vocab_size`` that is not the vocabulary's."""
    if config.model.vocab_size not in (None, len(vocab)):
        msg = (
            f"model.vocab_size is {config.model.vocab_size} but gene_vocab '{vocab.name}' has {len(vocab)} tokens, "
            "special ones included; leave model.vocab_size out."
        )
        raise ConfigError(msg)


def membership(positions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that tells which of some positions are among the given ones (sorted)."""

    def contains(asked: np.ndarray) -> np.ndarray:
        if not len(positions):
            return np.zeros(len(asked), dtype=bool)
        slot = np.minimum(np.searchsorted(positions, asked), len(positions) - 1)
        found: np.ndarray = positions[slot] == asked
        return found

    return contains


def without(split: CellSplit, excluded: np.ndarray) -> CellSplit:
    """Return the split without some cells."""
    train = np.setdiff1d(split.train, excluded, assume_unique=True)
    if not len(train):
        msg = "no training cell expresses a gene of the vocabulary; check data.gene_vocab and data.split."
        raise DataError(msg)
    validation = np.setdiff1d(split.validation, excluded, assume_unique=True)
    if len(split.validation) and not len(validation):
        msg = "no held-out cell expresses a gene of the vocabulary; hold out others with data.split."
        raise DataError(msg)
    return replace(split, train=train, validation=validation)
