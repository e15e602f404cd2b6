"""Whether one predictor is better than another: differences on the same folds, and how sure one can be of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from scmodelforge._errors import ConfigError

__all__ = ["PairedDifference", "paired_difference"]


class PairedDifference(NamedTuple):
    """Difference of two predictors over folds.

    Attributes
    ----------
    mean
        Mean of the first's score minus the second's.
    low, high
        95 % interval of it.
    num_better
        Folds in which the first is better.
    num_folds
        Folds in which both have a score.
    """

    mean: float
    low: float
    high: float
    num_better: int
    num_folds: int


def paired_difference(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, *, test_share: float
) -> PairedDifference:
    """Compare scores of two predictors on the same folds; larger is better.

    Folds share most of their training regions, so their scores are not independent and the usual interval is too
    narrow. The variance is that of Nadeau & Bengio 2003 (doi:10.1023/A:1024068626366): 1/n becomes
    1/n + test share / (1 - test share). It is a rule of thumb, and pairs inside a fold share regions as well.

    Parameters
    ----------
    first, second
        Scores of each fold, shape (n,). Folds where either has none (NaN) do not count.
    test_share
        Share of the regions that a fold holds out.

    Returns
    -------
    The difference; its interval is NaN with fewer than two folds.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If there are not as many scores of one as of the other, or the share is none.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        msg = f"scores have the shapes {one.shape} and {other.shape}; one score of each for every fold is needed."
        raise ConfigError(msg)
    if not 0 < test_share < 1:
        msg = f"test_share is {test_share!r}; a share of the regions is needed, above 0 and below 1."
        raise ConfigError(msg)
    gaps = (one - other)[np.isfinite(one - other)]
    count = len(gaps)
    if not count:
        return PairedDifference(np.nan, np.nan, np.nan, 0, 0)
    reach = np.nan
    if count > 1:
        widened = gaps.var(ddof=1) * (1 / count + test_share / (1 - test_share))
        reach = t.ppf(0.975, count - 1) * np.sqrt(widened)
    mean = float(gaps.mean())
    return PairedDifference(mean, float(mean - reach), float(mean + reach), int((gaps > 0).sum()), count)
