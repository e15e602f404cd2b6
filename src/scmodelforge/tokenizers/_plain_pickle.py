"""Reading pickled dictionaries of texts and numbers without running anything that a pickle may ask for."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["read_plain_pickle"]

#: Types of numpy numbers that are read.
_NUMBERS = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
#: What a damaged pickle, or one that misuses what is admitted, makes the reader raise.
_FAULTS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError,
)  # fmt: skip


def read_plain_pickle(path: Path, content: bytes, *, keys: type = str) -> dict[Any, Any]:
    """Return a pickled dictionary with texts or ints as keys and texts, ints or floats as values.

    Numbers that numpy pickled become plain ones. Everything else is refused before it is made: no class or function
    is looked up, so nothing in the file can run.

    Parameters
    ----------
    path
        What messages call the file.
    content
        The pickle.
    keys
        What the keys are, ``str`` or ``int``.

    Raises
    ------
    DataError
        If there is anything else in it, or it is damaged.
    """
    advice = "only a dictionary of texts and numbers is read from a pickle; take the published file."
    try:
        found = _PlainUnpickler(io.BytesIO(content)).load()
    except _FAULTS as problem:
        reason = str(problem) if isinstance(problem, pickle.UnpicklingError) else "it is damaged"
        msg = f"{path}: {reason or 'it is damaged'}; {advice}"
        raise DataError(msg) from None
    if type(found) is not dict or not all(
        type(key) is keys and type(value) in (str, int, float) for key, value in found.items()
    ):
        msg = f"{path}: its content is {type(found).__name__} with other things than texts and numbers in it; {advice}"
        raise DataError(msg)
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Knows no global names but the two with which numpy pickles a number, and has its own stand-ins for these."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if name == "scalar" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Number
        msg = f"it asks for {module}.{name}"
        raise pickle.UnpicklingError(msg)


class _Dtype:
    """Type of a number, as numpy pickles it; the byte order comes with the state."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in _NUMBERS:
            msg = f"it holds numpy values of type {code!r:.20}"
            raise pickle.UnpicklingError(msg)
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Number:
    """A number, made of its type and its bytes."""

    def __new__(cls, dtype: _Dtype, content: bytes) -> Any:
        return np.frombuffer(content, dtype=np.dtype(f"{dtype.order}{dtype.code}")).reshape(()).item()

    def __setstate__(self, state: object) -> None:
        # Without this method, a pickle could change the class itself.
        msg = "it changes a number"
        raise pickle.UnpicklingError(msg)
