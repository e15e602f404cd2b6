"""Medians over genes of sums over runs of cells: most of the work of size factors."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled

__all__ = ["run_medians"]


def run_medians(before: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """Return the median over genes of the sum of each run of cells, shape (number of sizes, count), float64.

    Parameters
    ----------
    before
        Sum of the rows before each row and, last, of all, shape (cells + 1, G), float64.
    sizes
        Cells of a run, int64.
    count
        Runs of each size: those that begin at cells 0, 1, ..., count - 1.
    """
    kernel = _run_medians(before.size)
    if kernel is not None:
        out = np.empty((len(sizes), count))
        kernel(before, sizes, out)
        return out
    return np.stack([np.median(before[size : size + count] - before[:count], axis=1) for size in sizes])


@compiled
def _run_medians(before, sizes, out):
    # The next run is nearly the last one, and so is its median. Values below an interval around that are counted,
    # those inside are gathered and searched; only where the median is not inside, which is rare, all are.
    genes = before.shape[1]
    upper = genes // 2
    lower = upper - 1 + genes % 2
    inside = np.empty(genes)
    for kind in range(len(sizes)):
        size = sizes[kind]
        centre, reach = 0.0, -1.0
        for first in range(out.shape[1]):
            found, below = 0, 0
            if reach > 0:
                low, high = centre - reach, centre + reach
                for gene in range(genes):
                    value = before[first + size, gene] - before[first, gene]
                    below += value < low
                    inside[found] = value
                    found += (value >= low) & (value <= high)
            if below > lower or below + found <= upper:
                found, below = genes, 0
                for gene in range(genes):
                    inside[gene] = before[first + size, gene] - before[first, gene]
            elif found > genes // 8:
                reach *= 0.7
            # Hoare's selection of the upper of the two middle values; it leaves the smaller ones before it.
            left, right, wanted = 0, found - 1, upper - below
            while left < right:
                pivot = inside[(left + right) // 2]
                i, j = left, right
                while i <= j:
                    while inside[i] < pivot:
                        i += 1
                    while inside[j] > pivot:
                        j -= 1
                    if i <= j:
                        inside[i], inside[j] = inside[j], inside[i]
                        i += 1
                        j -= 1
                if wanted <= j:
                    right = j
                elif wanted >= i:
                    left = i
                else:
                    break
            centre = inside[wanted]
            if lower < upper:
                highest = inside[0]
                for number in range(wanted):
                    highest = max(highest, inside[number])
                centre = (centre + highest) / 2
            out[kind, first] = centre
            if found == genes:
                reach = max(0.02 * abs(centre), 2 * reach)
