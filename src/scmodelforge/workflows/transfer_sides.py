"""Two data sets, of which one gives labels to the other: opened, and their cells chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig, SplitConfig
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.eval.benchmarks.label_transfer import LabelTransferConfig
from scmodelforge.eval.harness import stratified_subsample
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows._obs_text import ObsColumn
from scmodelforge.workflows.prepare import PreparedData

__all__ = ["TransferSide", "open_transfer"]


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
    num_there, label_sizes
        Cells that these were chosen from, in all and of each label.
    """

    data: PreparedData
    config: DataConfig
    label: str
    batch: str | None
    positions: np.ndarray
    num_there: int
    label_sizes: dict[str, int]

    @classmethod
    def of(
        cls, data: PreparedData, config: DataConfig, *, label: str, batch: str | None, max_cells: int, seed: int
    ) -> TransferSide:
        """Choose the cells: all but empty ones, whatever a split says, subsampled by label."""
        cells = np.sort(np.concatenate([data.split.train, data.split.validation]))
        column = ObsColumn.of(data, label)
        assert column is not None
        chosen = cells[stratified_subsample(column.codes[cells], max_cells, seed)]
        return cls(data, config, label, batch, chosen, len(cells), column.sizes(cells))

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
