"""Do labels carry over from one data set to another? Probes fitted on a reference, scored on a query."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.annotation.probes import ProbeConfig
from scmodelforge.eval.annotation.run import annotate
from scmodelforge.eval.annotation.transfer import renamed_sizes, share_labels, transfer_name
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import column_of

__all__ = ["LabelTransfer", "LabelTransferConfig"]

_NAME = "label_transfer"


class LabelTransferConfig(ProbeConfig):
    """Settings of the benchmark. ``dataset`` is the query: the data set whose cells are to be labelled."""

    name: str = _NAME
    reference: str | None = None
    """A registered data set or an .h5ad file, whose labels are given to the cells of the query."""
    reference_label: str | None = None
    """obs column of the reference with the cell types; ``None`` is the data set's own, else ``label``."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """New names of labels of either data set, where they call the same cells differently. Others match by name."""


@register_benchmark(_NAME)
class LabelTransfer:
    """Scores of cell type annotation, with a reference as training cells and a query as held-out cells.

    Labels of the query that the reference does not have cannot be given: they count as errors, are listed, and whether
    they can be told is ``unknown_auroc_<probe>``.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = LabelTransferConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset()  # of two data sets, which may call them differently

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = LabelTransferConfig.model_validate(config.model_dump())
        if self.config.reference is None or self.config.dataset is None:
            lacking = "reference" if self.config.reference is None else "dataset"
            msg = (
                f"benchmark '{_NAME}' needs two data sets, and '{lacking}' is not set; give it as "
                "{name: label_transfer, reference: LABELLED, dataset: TO_LABEL}, each a registered name or an .h5ad."
            )
            raise ConfigError(msg)
        self.names = self.config.reference, self.config.dataset
        self.expected = transfer_name(*self.names)

    def check_labels(self, reference: np.ndarray | None, query: np.ndarray | None) -> None:
        """Make sure, before anything is computed, that two data sets have labels in common.

        Parameters
        ----------
        reference, query
            Labels of the cells, each shape (n,), str; ``None`` where there are none, which a run tells of.

        Raises
        ------
        ConfigError
            As of :meth:`run`.
        """
        if reference is not None and query is not None:
            share_labels(reference, query, self.config.mapping)

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Fit the probes on the cells of the reference and score them on those of the query.

        Raises
        ------
        DataError
            If the cells are those of one data set.
        ConfigError
            If the data sets share no label, or the mapping names one that there is not.
        """
        if inputs.dataset != self.expected:
            msg = (
                f"benchmark '{_NAME}' got the cells of '{inputs.dataset}', and needs those of two data sets "
                f"('{self.expected}'); they come from scmodelforge.workflows.label_transfer."
            )
            raise DataError(msg)
        reference, query = (column_of(part, "label", _NAME, inputs) for part in (inputs.train, inputs.heldout))
        shared = share_labels(reference, query, self.config.mapping)
        sizes = None if inputs.label_sizes is None else renamed_sizes(inputs.label_sizes, self.config.mapping)
        relabelled = replace(_relabelled(inputs, shared.reference, shared.query), label_sizes=sizes)
        records = annotate(_NAME, self.config, relabelled)
        about = {
            "reference": Path(str(self.config.reference)).name,
            "mapping": dict(self.config.mapping),
            **shared.facts,
        }
        for record in records:
            record.params |= about
        return records


def _relabelled(inputs: BenchmarkInputs, reference: np.ndarray, query: np.ndarray) -> BenchmarkInputs:
    train, heldout = replace(inputs.train, labels=reference), replace(inputs.heldout, labels=query)
    return replace(inputs, train=train, heldout=heldout)
