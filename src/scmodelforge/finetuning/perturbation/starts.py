"""Control cells that predictions start from: few of many, but with the mean of all."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.finetuning.perturbation.expression import Expression, condition_means

__all__ = ["MOST_CELLS", "chosen_controls", "control_cells"]

#: Control cells of each covariate that are predicted from, if nobody says otherwise.
MOST_CELLS = 200
#: Most that a value is multiplied by: logarithms of counts stay such.
_LARGEST_FACTOR = 1.5


def chosen_controls(positions: np.ndarray, most: int = MOST_CELLS) -> np.ndarray:
    """Return some of the positions, ascending, drawn by hash: the same ones wherever they are asked for."""
    draws = mix(0, "control cells", positions)
    return np.sort(positions[np.argsort(draws, kind="stable")[:most]])


def control_cells(expression: Expression, chosen: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Return chosen control cells with the mean of all: predictions of no change are then scored as no change is.

    Genes are scaled, so that zeros stay zeros. What that cannot do, since no chosen cell expresses a gene that others
    do or the factor would be large, is added to all chosen cells.

    Parameters
    ----------
    expression
        The cells.
    chosen
        Positions of those that are returned, ascending.
    every
        Positions of all controls of the same covariate.

    Returns
    -------
    Shape (n, G), float64.
    """
    cells: np.ndarray = expression.matrix(chosen).toarray().astype(np.float64)
    if np.array_equal(chosen, every):
        return cells
    codes = np.full(sum(expression.source.file_sizes), -1)
    codes[every] = 0
    wanted, mean = condition_means(expression, codes, 1).means[0], cells.mean(axis=0)
    exact = np.divide(wanted, mean, out=np.ones_like(mean), where=mean > 0)
    factors = np.minimum(exact, _LARGEST_FACTOR)
    lacking = np.where((factors < exact) | (mean == 0), wanted - mean * factors, 0.0)
    return cells * factors + lacking
