"""Numbers of any type as float32, none of them changed unseen."""

from __future__ import annotations

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["as_float32", "check_exact"]

#: float32 holds every whole number up to here.
_LARGEST_WHOLE = 1 << 24


def check_exact(values: np.ndarray, label: str) -> None:
    """Refuse whole numbers that float32 does not have.

    Parameters
    ----------
    values
        Numbers of any type.
    label
        What the message calls them.

    Raises
    ------
    DataError
        If there is one.
    """
    if values.dtype.kind not in "iu" or np.can_cast(values.dtype, np.float32) or not values.size:
        return
    largest, least = int(values.max()), int(values.min())
    if max(largest, -least) > _LARGEST_WHOLE:
        msg = (
            f"{label} holds {max(largest, least, key=abs):,}; whole numbers beyond {_LARGEST_WHOLE:,} are not exact as "
            "float32. Counts of a cell are smaller: check which matrix data.layer names."
        )
        raise DataError(msg)


def as_float32(values: np.ndarray, label: str) -> np.ndarray:
    """Return numbers as float32; see :func:`check_exact`."""
    check_exact(values, label)
    with np.errstate(over="ignore"):  # becomes infinite, which the scan reports with cell and gene
        return values.astype(np.float32, copy=False)
