"""Can cell types be read off an embedding? Probes fitted on training cells, scored on held-out cells."""

from __future__ import annotations

from typing import ClassVar, Literal

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.annotation.probes import ProbeConfig
from scmodelforge.eval.annotation.run import annotate, annotate_by_group, beside_head
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark

__all__ = ["CellTypeAnnotation", "CellTypeAnnotationConfig"]

_NAME = "cell_type_annotation"


class CellTypeAnnotationConfig(ProbeConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    folds: Literal["heldout", "by_group"] = "heldout"
    """``heldout`` scores the run's own held-out cells. ``by_group`` adds a cross-validation over all cells that holds
    out whole groups (donors, else batches) in turn; the model may have been trained on them, the probe has not."""


@register_benchmark(_NAME)
class CellTypeAnnotation:
    """Scores of each probe, of a model's own head if it was trained to annotate, and of the majority guess.

    Metrics are named ``<score>_<probe>``, such as ``macro_f1_linear_probe``, ``accuracy_knn15`` and ``accuracy_head``.
    Macro F1 averages over labels that are true or predicted somewhere. Held-out cells of a label that no training cell
    has cannot be right: they count as errors, and ``params.unseen_labels`` names them. Whether confidence tells them
    apart is ``unknown_auroc_<probe>``, and what a threshold found on training cells makes of it
    ``open_accuracy_<probe>``, ``unseen_rejected_<probe>`` and ``seen_rejected_<probe>``.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = CellTypeAnnotationConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = CellTypeAnnotationConfig.model_validate(config.model_dump())

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Fit the probes on the training cells and score them on the held-out cells."""
        records = annotate(_NAME, self.config, inputs)
        if self.config.folds == "by_group":
            records += annotate_by_group(_NAME, self.config, inputs)
        return records

    def rivals(self, records: list[Record]) -> list[Record]:
        """Return what stands beside the model's head: the linear probes of the baselines, on the same cells."""
        return beside_head(records)
