"""A model from any address: one of ours, or one that others published."""

from __future__ import annotations

from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.hub.locate import locate

__all__ = ["load_model"]


def load_model(
    address: str | Path,
    *,
    dictionaries: str | Path | None = None,
    offline: bool = False,
    trust_plugins: bool = False,
) -> Bundle:
    """Return the model at an address.

    Parameters
    ----------
    address
        As of :func:`~scmodelforge.hub.addresses.parse_address`; a run folder stands for its exported model.
    dictionaries
        Folder with the dictionaries of a published representation; ``None`` takes those that were fetched.
    offline
        Look on this machine only.
    trust_plugins
        Import the Python files that a folder of ours names.

    Raises
    ------
    ConfigError, DataError
        As of :func:`~scmodelforge.hub.locate.locate`, :func:`~scmodelforge.hub.bundle.load_bundle` and the importers;
        if a folder is neither ours nor known to an importer.
    """
    folder = locate(parse_address(address), offline=offline).folder
    if not (folder / "config.json").is_file():
        msg = f"{folder} is neither a model folder nor a run folder with an exported model (no config.json in it)."
        raise DataError(msg)
    return load_bundle(folder, trust_plugins=trust_plugins)
