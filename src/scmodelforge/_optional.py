"""Packages that only some features need: imported when used, with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["require"]


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module
        The module to import.
    extra
        The extra of this package that installs it.
    why
        What it is needed for, as the subject of the error's first sentence.

    Raises
    ------
    ImportError
        If the package is not installed; the message has the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        msg = f"{why} needs the package '{package}'. Install it with: pip install 'scmodelforge[{extra}]'"
        raise ImportError(msg) from error
