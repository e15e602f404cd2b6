from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from scmodelforge.connectome import paired_difference

ONE, OTHER = [0.7, 0.6, 0.65, 0.71], [0.6, 0.62, 0.6, 0.64]


def test_the_mean_is_over_folds():
    gap = paired_difference(ONE, OTHER, test_share=0.25)
    assert gap.mean == pytest.approx(np.mean(np.subtract(ONE, OTHER)))
    assert (gap.num_better, gap.num_folds) == (3, 4)


def test_the_interval_is_that_of_student_widened_for_shared_training_regions():
    gap = paired_difference(ONE, OTHER, test_share=0.25)
    plain = ttest_rel(ONE, OTHER).confidence_interval(0.95)
    widening = np.sqrt((1 / 4 + 1 / 3) / (1 / 4))
    assert gap.high - gap.low == pytest.approx(widening * (plain.high - plain.low))
    assert (gap.high + gap.low) / 2 == pytest.approx(gap.mean)


def test_folds_without_a_score_do_not_count():
    gap = paired_difference([*ONE, np.nan], [*OTHER, 0.5], test_share=0.25)
    assert gap == paired_difference(ONE, OTHER, test_share=0.25)
    assert paired_difference([np.nan], [0.1], test_share=0.2).num_folds == 0


def test_one_fold_has_no_interval():
    gap = paired_difference([0.5], [0.4], test_share=0.2)
    assert gap.mean == pytest.approx(0.1)
    assert np.isnan(gap.low)


@pytest.mark.parametrize(
    ("other", "share", "words"), [([0.1], 0.2, "one score of each for every fold"), (OTHER, 1.0, "test_share is 1.0")]
)
def test_a_fault_is_one_line(other, share, words):
    with pytest.raises(ValueError, match=words):
        paired_difference(ONE, other, test_share=share)
