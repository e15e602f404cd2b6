"""A model from any address: one of ours, or one that others published."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import torch

from scmodelforge._errors import DataError, listed
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.addresses import LocalFolder, parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.hub.importers.base import Importer
from scmodelforge.hub.locate import Located, locate
from scmodelforge.hub.pretrained import PretrainedModel

__all__ = ["load_model"]

_log = logging.getLogger(__name__)

#: Files that no other kind of model has.
_OURS = ("preprocessing.json", "fingerprint.json")
_MOST = 6  # names of files in a message


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
    where = parse_address(address)
    if dictionaries is not None and not Path(dictionaries).is_dir():
        msg = f"{dictionaries}: no such folder; name the one with the dictionaries of the published model."
        raise DataError(msg)
    located = locate(where, offline=offline)
    if _is_ours(located.folder):
        if dictionaries is not None:
            _log.info(f"{located.origin}: has a vocabulary of its own; the dictionaries in {dictionaries} are not used")
        bundle = load_bundle(located.folder, trust_plugins=trust_plugins)
    else:
        bundle = _imported(
            located,
            dictionaries=None if dictionaries is None else Path(dictionaries),
            # Where a folder lies on this machine is no business of those that the model is passed on to.
            known_as=located.folder.resolve().name if isinstance(where, LocalFolder) else located.origin,
        )
    bundle.origin = located.origin
    return bundle


def _is_ours(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _OURS):
        return True
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads the folder says what is wrong with it
        return False
    return isinstance(settings, dict) and "format_version" in settings


def _imported(located: Located, *, dictionaries: Path | None, known_as: str) -> Bundle:
    name, importer = _importer_of(located)
    checksums = located.entry.checksums if located.entry is not None else None
    imported = importer.load(located.folder, dictionaries=dictionaries, sha256=checksums)
    imported.report.check(located.origin)
    _log.info(f"{located.origin}: read by the importer '{name}'")
    for line in imported.report.lines():
        _log.info(line)
    bundle = imported.bundle
    if located.entry is not None:
        _check_vocabulary(bundle, located.entry, str(located.folder))
    told = {"importer": name, **bundle.fingerprint.get("imported_from", {}), "origin": known_as}
    bundle.fingerprint = {**bundle.fingerprint, "imported_from": told}
    if "config_hash" not in bundle.fingerprint:  # without one, results of two models could not be told apart
        bundle.fingerprint["config_hash"] = _hash_of_weights(bundle)
    return bundle


def _check_vocabulary(bundle: Bundle, entry: PretrainedModel, origin: str) -> None:
    """Refuse another model than the one asked for by name, also where no checksum is known."""
    if len(bundle.vocab) != entry.vocabulary.num_tokens:
        msg = (
            f"{origin}: its vocabulary has {len(bundle.vocab):,} tokens, that of {entry.name} "
            f"{entry.vocabulary.num_tokens:,}; put the files of {entry.name} there."
        )
        raise DataError(msg)


def _hash_of_weights(bundle: Bundle) -> str:
    found = hashlib.sha256()
    for tensor in bundle.model.state_dict().values():
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _importer_of(located: Located) -> tuple[str, Importer]:
    """Return the only importer that takes a folder, of a model of the registry the one that is named there."""
    names = IMPORTERS.names() if located.entry is None else [located.entry.importer]
    importers = {name: IMPORTERS.get(name)() for name in names}
    found = {name: each for name, each in importers.items() if each.recognises(located.folder)}
    if len(found) > 1:
        msg = (
            f"{located.folder} could be of several kinds of models ({', '.join(found)}); leave only the files of one "
            "in the folder."
        )
        raise DataError(msg)
    if not found:
        raise DataError(_of_no_kind(located, names))
    return next(iter(found.items()))


def _of_no_kind(located: Located, names: list[str]) -> str:
    folder = located.folder
    if (folder / "run.json").is_file():
        return (
            f"{folder} is a run folder without an exported model; let the run finish: scmodelforge train --resume "
            f"{folder}"
        )
    there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    holds = f"it holds {listed(there, _MOST)}" if there else "it is empty"
    if located.entry is not None:
        wanted = ", ".join(file.path for file in located.entry.files)
        return f"{folder} is not {located.entry.title}: {holds}; {wanted} are needed, as published."
    kinds = f" ({', '.join(names)})" if names else ""
    return (
        f"{folder} is neither a model folder nor a run folder with an exported model, nor of a published model that "
        f"can be imported{kinds}: {holds}; give the folder that has config.json and the weights."
    )
