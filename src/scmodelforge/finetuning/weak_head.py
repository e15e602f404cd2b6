"""Whether a head learned less than its input holds: said plainly at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.eval.base import Record
from scmodelforge.eval.differences import difference_interval
from scmodelforge.eval.standing import MODEL

__all__ = ["weak_head_notes"]

_BENCHMARK = "cell_type_annotation"
# Both must say so: a head with weighted classes may give up one for the other.
_SCORES = ("accuracy", "macro_f1")


def weak_head_notes(records: Iterable[Record]) -> list[str]:
    """Return a warning if the head cannot be told from one answer for all cells, or is clearly below a linear probe.

    The probe reads the embeddings that the head reads and learns from the same cells, so that the head could do as
    well. Other data sets than the run's own cells do not count: there a probe knows labels that the head was not shown.

    Parameters
    ----------
    records
        Scores of the exported model on held-out cells.
    """
    found = {
        record.metric: record
        for record in records
        if (record.benchmark, record.dataset, record.representation) == (_BENCHMARK, OWN_CELLS, MODEL)
        and record.value is not None
        and record.interval is not None
    }
    heads = [found.get(f"{score}_head") for score in _SCORES]
    if any(head is None for head in heads):
        return []
    told = f"the head names {found['accuracy_head'].value:.1%} of held-out cells rightly"
    probe = found.get("accuracy_linear_probe")
    beside = "" if probe is None else f"; a linear probe of the same embeddings has {probe.value:.1%}"
    way_out = "train longer or with a higher training.optimizer.lr (docs/finetuning.md)"
    if all(_is_of_one_answer(head) for head in heads if head is not None):
        share = found["accuracy_head"].baselines["majority"]
        return [f"warning: {told}, and the commonest type alone {share:.1%}: it learned nothing{beside}; {way_out}"]
    if all(_is_below_probe(found, score) for score in _SCORES):
        return [f"warning: {told}, clearly fewer than could be{beside}; {way_out}"]
    return []


def _is_of_one_answer(head: Record) -> bool:
    assert head.interval is not None
    return "majority" in head.baselines and head.interval[0] <= head.baselines["majority"]


def _is_below_probe(found: Mapping[str, Record], score: str) -> bool:
    head, probe = found[f"{score}_head"], found.get(f"{score}_linear_probe")
    if probe is None:
        return False
    assert head.value is not None
    assert head.interval is not None
    assert probe.value is not None
    assert probe.interval is not None
    return difference_interval(head.value, head.interval, probe.value, probe.interval)[0] > 0
