"""What a perfect method would reach: one half of the real cells scored against the other.

As in cell-eval, each perturbation and the control are drawn with replacement to twice their number of cells and
split in two; the first half takes the place of predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scmodelforge.data.draws import generator
from scmodelforge.eval.perturbation.cells import ConditionCells, remembered
from scmodelforge.eval.perturbation.scores import Comparison, Score

__all__ = ["ceilings", "halves"]


def halves(comparison: Comparison, *, seed: int) -> Comparison | None:
    """Return one bootstrap half of the real cells as predictions of the other; what is predicted does not matter.

    ``None`` if a perturbation, or a control, has fewer than two real cells.
    """
    real = comparison.real
    groups = sorted({each for group in comparison.groups for each in (group, group.control)})
    if not isinstance(real, ConditionCells) or any(real.size(group) < 2 for group in groups):
        return None
    first, second = {}, {}
    for group in groups:
        rows = real.rows[group]
        drawn = rows[generator(seed, "noise ceiling", group.label).integers(len(rows), size=2 * len(rows))]
        first[group], second[group] = drawn[: len(rows)], drawn[len(rows) :]
    return Comparison(real.chosen(first), real.chosen(second), comparison.groups, comparison.genes)


def ceilings(
    comparison: Comparison, name: str, score: Callable[[Comparison], Sequence[Score]], *, seed: int
) -> dict[str, float]:
    """Return the noise ceiling of each metric of a suite, computed once for the same real cells.

    Parameters
    ----------
    comparison
        Its real cells count, its predictions do not.
    name
        Name of the suite with its settings.
    score
        The suite.
    seed
        Seed of the draws.
    """

    def compute() -> dict[str, float]:
        both = halves(comparison, seed=seed)
        if both is None:
            return {}
        rows = np.arange(len(both.groups))
        found = {each.metric: each.value(rows) for each in score(both)}
        return {metric: value for metric, value in found.items() if np.isfinite(value)}

    return remembered(comparison.real, ("ceilings", name, seed), compute)
