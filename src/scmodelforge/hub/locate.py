"""From the address of a model to a folder on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import Address, LocalFolder
from scmodelforge.hub.pretrained import PretrainedModel

__all__ = ["Located", "locate"]


@dataclass(frozen=True)
class Located:
    """Files of a model on this machine.

    Attributes
    ----------
    folder
        Where they are: a model folder of ours, or one as others publish it.
    origin
        The address, with the revision that was fetched, for provenance.
    entry
        What the registry says of it, if it was asked for by name.
    """

    folder: Path
    origin: str
    entry: PretrainedModel | None = None


def locate(address: Address, *, offline: bool = False, endpoint: str | None = None) -> Located:
    """Find the files of a model, and fetch them if they are not here.

    A folder may be one of ours, or as others published it; of a run folder it is the exported model. No file is read
    here; those that the registry has a checksum for are compared with it.

    Parameters
    ----------
    address
        Where the model is.
    offline
        Look on this machine only; so does ``HF_HUB_OFFLINE``.
    endpoint
        Address of the hub; ``None`` is the usual one, or ``HF_ENDPOINT``.

    Raises
    ------
    ConfigError
        If the registry has no such name.
    DataError
        If the files are not here and cannot be fetched: the message has the exact command that fetches them elsewhere,
        and where to put them. If a file is not the published one.
    """
    if isinstance(address, LocalFolder):
        if not address.path.is_dir():
            msg = f"{address.path}: no such folder; correct the path, or give hf://owner/name or scmodelforge://name."
            raise DataError(msg)
        model = address.path / "model"
        return Located(model if (model / "config.json").is_file() else address.path, str(address.path))
    raise NotImplementedError
