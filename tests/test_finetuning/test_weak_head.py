"""A head that learned less than its input holds is named at the end of a run, others are not."""

from __future__ import annotations

import pytest

from scmodelforge.eval.base import Record
from scmodelforge.finetuning.weak_head import weak_head_notes


def record(metric: str, value: float | None, half: float = 0.05, **more) -> Record:
    interval = None if value is None else [value - half, value + half]
    given = {"benchmark": "cell_type_annotation", "dataset": "heldout", "representation": "model"} | more
    return Record(metric=metric, value=value, interval=interval, **given)


def scores(head: float, head_f1: float, probe: float = 0.78, probe_f1: float = 0.7, **more) -> list[Record]:
    return [
        record("accuracy_linear_probe", probe, **more),
        record("macro_f1_linear_probe", probe_f1, **more),
        record("accuracy_head", head, baselines={"majority": 0.34}, **more),
        record("macro_f1_head", head_f1, baselines={"majority": 0.07}, **more),
    ]


def test_one_answer_for_all_cells():
    (line,) = weak_head_notes(scores(0.342, 0.073))
    assert line.startswith("warning: the head names 34.2% of held-out cells rightly, and the commonest type alone 34")
    assert "a linear probe of the same embeddings has 78.0%" in line


def test_clearly_below_the_probe():
    (line,) = weak_head_notes(scores(0.60, 0.45))
    assert "clearly fewer than could be" in line


@pytest.mark.parametrize(
    "found",
    [
        scores(0.74, 0.66),  # within the uncertainty of both
        scores(0.60, 0.72),  # classes were weighted: rare ones are named better for it
        scores(0.342, 0.073, dataset="other"),  # labels that the head was not shown
        scores(0.342, 0.073, representation="pca"),
        [record("accuracy_head", None), record("macro_f1_head", None)],
        [],
    ],
)
def test_nothing_is_said_of_others(found):
    assert weak_head_notes(found) == []


def test_without_a_probe_the_commonest_type_still_counts():
    found = [each for each in scores(0.342, 0.073) if each.metric.endswith("head")]
    (line,) = weak_head_notes(found)
    assert "probe" not in line
