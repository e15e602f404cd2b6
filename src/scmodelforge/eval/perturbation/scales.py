"""Whether the values of a file can be what ``--scale`` says: what contradicts it is refused, nothing is guessed.

Logarithms of counts are no whole numbers, and none is large. So whole numbers are no logarithms, and large values are
none either. The reverse does not hold: counts may be fractional (expected counts, means of cells, corrected counts),
and small. Measured values that are fractional and all small are refused as counts, for cells as they were measured
have whole ones. Predicted ones are refused where the measured counts are larger than any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError

__all__ = ["Scale", "Seen", "check_counts"]

Scale = Literal["log1p", "counts"]

_LARGEST_LOG = 15.0  # the logarithm of 3.3 million: no cell has so many counts of a gene


@dataclass
class Seen:
    """What the values of a file are like, as far as they were read.

    Attributes
    ----------
    largest
        The largest value.
    fraction
        One that is no whole number, or ``None``.
    largest_mean
        The largest mean of a gene over the cells of a group.
    """

    largest: float = 0.0
    fraction: float | None = None
    largest_mean: float = 0.0

    @property
    def may_be_logged(self) -> bool:
        """Whether logarithms of counts could have these values."""
        return self.fraction is not None and self.largest <= _LARGEST_LOG

    def add(self, block: Any, scale: Scale, where: str) -> None:
        """Take note of some cells.

        Parameters
        ----------
        block
            Their values, sparse or dense.
        scale
            What they are said to be.
        where
            Whose they are, for messages: "the predictions of 'KLF1' have".

        Raises
        ------
        DataError
            If a value is not a number or cannot be on this scale.
        """
        values = block.data if sp.issparse(block) else np.asarray(block).ravel()
        if not np.isfinite(values).all():
            msg = f"{where} values that are NaN or infinite; leave those cells out."
            raise DataError(msg)
        largest = float(np.abs(values).max(initial=0.0))
        is_fraction = values != np.rint(values)
        self.largest = max(self.largest, largest)
        if self.fraction is None and is_fraction.any():
            self.fraction = float(values[is_fraction.argmax()])
        if scale == "counts" and values.min(initial=0.0) < 0:
            msg = f"{where} negative values, and --scale says counts; say --scale log1p if they are logarithms."
            raise DataError(msg)
        is_whole = largest > 1 and not is_fraction.any()
        if scale == "log1p" and (is_whole or largest > _LARGEST_LOG):
            what = "only whole numbers" if is_whole else f"values of {largest:g}"
            msg = (
                f"{where} {what}, which logarithms of counts do not have, and --scale says log1p; take logarithms "
                "first, or say --scale counts if these are counts."
            )
            raise DataError(msg)


def check_counts(real: Seen, predicted: Seen) -> bool:
    """Make sure that values said to be counts are not logarithms.

    Parameters
    ----------
    real, predicted
        What was seen of the files.

    Returns
    -------
    Whether the predictions could be logarithms as well: fractional and small, but so are the means of measured counts.

    Raises
    ------
    DataError
        If a file's values are logarithms by all that can be seen.
    """
    if real.may_be_logged:
        msg = (
            f"the real cells (--data) have values such as {real.fraction:.4g} and none above {real.largest:.4g}, as "
            "logarithms have and counts of cells do not, and --scale says counts; say --scale log1p if they are logged "
            "(small fractional counts have to be normalised and logged first, in both files)."
        )
        raise DataError(msg)
    if predicted.may_be_logged and real.largest_mean > _LARGEST_LOG:
        msg = (
            f"the predictions have values such as {predicted.fraction:.4g} and none above {predicted.largest:.4g}, as "
            f"logarithms have, where the real cells have a gene with {real.largest_mean:.4g} counts in the mean, and "
            "--scale says counts; give both files as counts, or both logged with --scale log1p."
        )
        raise DataError(msg)
    return predicted.may_be_logged
