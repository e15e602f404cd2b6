"""The interval of a difference between two scores, made of theirs."""

from __future__ import annotations

import math

__all__ = ["difference_interval"]


def difference_interval(
    first: float, first_bounds: list[float], second: float, second_bounds: list[float]
) -> list[float]:
    """Return the 95 % interval of ``second`` less ``first`` (Zou and Donner 2008, doi:10.1002/sim.3095).

    It takes the two scores as independent. They are of the same cells, and what is hard for one model mostly is for the
    other, so that an interval over the same draws would be narrower.

    Parameters
    ----------
    first, second
        The scores.
    first_bounds, second_bounds
        Their intervals. An interval of percentiles need not hold the score itself; such a side has no length, rather
        than a negative one.
    """
    difference = second - first
    below = math.hypot(max(second - second_bounds[0], 0.0), max(first_bounds[1] - first, 0.0))
    above = math.hypot(max(second_bounds[1] - second, 0.0), max(first - first_bounds[0], 0.0))
    return [difference - below, difference + above]
