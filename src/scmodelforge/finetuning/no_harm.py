"""Whether a fine-tuned embedding is worse than one that was there before: said plainly at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable

from scmodelforge.eval.base import Record
from scmodelforge.eval.standing import MODEL

__all__ = ["gain_notes", "harm_notes"]

#: What representations are called in words.
_NAMES = {"untrained": "the base model before fine-tuning (zero-shot)", "pca": "PCA of the counts"}
_BENCHMARK = "batch_integration"
_TYPES = "cell_type_annotation"


def harm_notes(records: Iterable[Record]) -> list[str]:
    """Return what the scores of integration say, a line each; none where the model was not scored.

    Parameters
    ----------
    records
        Scores of the model with those of its baselines.
    """
    notes = []
    for record in records:
        is_total = (record.benchmark, record.metric, record.representation) == (_BENCHMARK, "total", MODEL)
        if is_total and record.value is not None:
            notes += _of_total(record, record.value)
    return notes


def gain_notes(records: Iterable[Record]) -> list[str]:
    """Return where the head of cell types is no better than a linear probe on the base model, a line each.

    Parameters
    ----------
    records
        Scores of the model with those of its baselines.
    """
    found = list(records)
    base = {
        (record.dataset, record.metric): record.value
        for record in found
        if record.benchmark == _TYPES and record.representation == "untrained" and record.value is not None
    }
    notes = []
    for record in found:
        if (record.benchmark, record.metric, record.representation) != (_TYPES, "macro_f1_head", MODEL):
            continue
        rival = base.get((record.dataset, "macro_f1_linear_probe"))
        if record.value is not None and rival is not None and record.value <= rival:
            notes.append(
                f"warning: fine-tuning gained nothing on {record.dataset}: macro F1 of the head is {record.value:.3f}, "
                f"of a linear probe on the base model before fine-tuning {rival:.3f}; try another adaptation, learning "
                "rate or number of epochs (--sweep), or use the base model with 'scmodelforge embed'"
            )
    return notes


def _of_total(record: Record, value: float) -> list[str]:
    rivals = {name: record.baselines[name] for name in _NAMES if name in record.baselines}
    better = [f"{_NAMES[name]} {rival:.3f}" for name, rival in rivals.items() if value < rival]
    if not better:
        return []
    return [
        f"warning: fine-tuning did harm on {record.dataset}: the total of the fine-tuned model is {value:.3f}, "
        f"below {' and '.join(better)}; use that embedding, or try other weights (docs/batch_integration.md)"
    ]
