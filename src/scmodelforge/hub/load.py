"""A model from any address: one of ours, or one that others published."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import torch

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.hub.checksums import sha256_of
from scmodelforge.hub.importers.base import Imported, Importer, find_importer, holdings
from scmodelforge.hub.locate import Located, locate
from scmodelforge.hub.published_vocabulary import check_vocabulary, published_as
from scmodelforge.hub.weights import require_finite

__all__ = ["identity_of_weights", "import_published", "is_model_folder", "load_model"]

_log = logging.getLogger(__name__)

#: Files that no other kind of model has.
_OURS = ("preprocessing.json", "fingerprint.json")


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
        Folder with the dictionaries of a published representation; ``None`` takes those that were fetched. A model
        folder of ours has its own.
    offline
        Look on this machine only.
    trust_plugins
        Import the Python files that a folder of ours names.

    Returns
    -------
    The model; its ``origin`` is the address, with the revision that was fetched.

    Raises
    ------
    ConfigError, DataError
        As of :func:`~scmodelforge.hub.locate.locate`, :func:`~scmodelforge.hub.bundle.load_bundle` and the importers;
        if a folder is neither ours nor known to an importer.
    """
    if dictionaries is not None and not Path(dictionaries).is_dir():
        msg = f"{dictionaries}: no such folder; name the one with the dictionaries of the published model."
        raise DataError(msg)
    located = locate(parse_address(address), offline=offline)
    if is_model_folder(located.folder):
        if dictionaries is not None:
            _log.info(f"{located.origin}: has a vocabulary of its own; the dictionaries in {dictionaries} are not used")
        bundle = load_bundle(located.folder, trust_plugins=trust_plugins)
    else:
        name, imported = import_published(located, dictionaries=None if dictionaries is None else Path(dictionaries))
        _log.info(f"{located.origin}: read by the importer '{name}'")
        for line in imported.report.lines():
            _log.info(line)
        bundle = imported.bundle
    bundle.origin = located.origin
    return bundle


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder is, or was meant as, one that :func:`~scmodelforge.hub.bundle.save_bundle` writes."""
    if any((folder / name).is_file() for name in _OURS):
        return True
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads the folder says what is wrong with it
        return False
    return isinstance(settings, dict) and "format_version" in settings


def import_published(
    located: Located, *, dictionaries: Path | None = None, importer: str | None = None
) -> tuple[str, Imported]:
    """Read a published model.

    Parameters
    ----------
    located
        Its files, and what the list of published models says of it.
    dictionaries
        As of :func:`load_model`.
    importer
        What reads it; ``None`` takes what the list says, or what recognises the folder.

    Returns
    -------
    Name of the importer, and the model. Its fingerprint has the address in ``imported_from`` unless that is a folder:
    where one lies on this machine is no business of those that the model is passed on to.

    Raises
    ------
    ConfigError, DataError
        As of :func:`load_model`.
    """
    name, reader = _reader_of(located, importer)
    checksums = located.entry.checksums if located.entry is not None else None
    imported = reader.load(located.folder, dictionaries=dictionaries, sha256=checksums)
    imported.report.check(located.origin)
    imported.report.warn(located.origin)
    bundle = imported.bundle
    require_finite(bundle.model, located.origin)
    entry = located.entry or published_as(bundle)
    if entry is not None:
        check_vocabulary(bundle, entry, str(located.folder))
    told = {"importer": name, "folder": located.folder.resolve().name, **bundle.fingerprint.get("imported_from", {})}
    told |= {"origin": located.origin} if "://" in located.origin else {}
    bundle.fingerprint = {**bundle.fingerprint, "imported_from": told}
    if "config_hash" not in bundle.fingerprint:  # without one, results of two models could not be told apart
        bundle.fingerprint["config_hash"] = _hash_of_weights(bundle)
    return name, imported


def _hash_of_weights(bundle: Bundle) -> str:
    found = hashlib.sha256()
    for tensor in bundle.model.state_dict().values():
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def identity_of_weights(bundle: Bundle) -> str:
    """Return what tells the weights of a model, as it was loaded, from all others.

    Files that were looked at before and have not changed are not read for it.
    """
    if bundle.folder is not None:
        return sha256_of(bundle.folder / "model.safetensors")
    if "imported_from" in bundle.fingerprint:  # of the files, or of the weights themselves
        return str(bundle.fingerprint["config_hash"])
    return _hash_of_weights(bundle)


def _reader_of(located: Located, importer: str | None) -> tuple[str, Importer]:
    folder, entry = located.folder, located.entry
    if (folder / "run.json").is_file():
        msg = (
            f"{folder} is a run folder without an exported model; let the run finish: scmodelforge train --resume "
            f"{folder}"
        )
        raise DataError(msg)
    name, reader = find_importer(folder, importer or (entry.importer if entry else None))
    if entry is not None and importer is None and not reader.recognises(folder):
        wanted = ", ".join(file.path for file in entry.files)
        msg = f"{folder} is not {entry.title}: {holdings(folder)}; {wanted} are needed, as published."
        raise DataError(msg)
    return name, reader
