"""A model fetched by its address, into the cache or a folder of one's own."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from scmodelforge._errors import ConfigError
from scmodelforge._json_files import read_json_object
from scmodelforge.hub.addresses import LocalFolder, parse_address
from scmodelforge.hub.bundle import load_parts
from scmodelforge.hub.locate import locate
from scmodelforge.workflows.model_folders import new_folder

__all__ = ["pull_model"]

#: What repositories hold beside a model.
_NOT_COPIED = shutil.ignore_patterns(".gitattributes", ".git", ".cache")


def pull_model(address: str, out: Path | None, *, offline: bool = False, force: bool = False) -> list[str]:
    """Fetch a model and look whether it is whole; no code of it is run.

    Parameters
    ----------
    address
        ``hf://owner/name[@revision][/folder]`` or ``scmodelforge://name``.
    out
        Folder to copy it to; ``None`` leaves it in the cache, where its address finds it.
    offline
        Look on this machine only.
    force
        Replace a model that is in the folder.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    ConfigError
        If it is an address of a folder.
    DataError
        If the model cannot be fetched, is of another format version or incomplete, or the folder cannot be written.
    """
    place = parse_address(address)
    if isinstance(place, LocalFolder):
        msg = f"{address} is a folder on this machine; pull fetches hf://owner/name or scmodelforge://name."
        raise ConfigError(msg)
    if out is None:
        found = locate(place, offline=offline)
        folder, notes = found.folder, _looked_at(found.folder)
    else:
        with new_folder(out, force=force) as new:
            found = locate(place, offline=offline)
            notes = _looked_at(found.folder)
            shutil.copytree(found.folder, new, ignore=_NOT_COPIED)
        folder = out
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    known_as = address if out is None else shlex.quote(str(out))
    lines = [f"{found.origin}: {len(files)} files, {size / 1e6:,.2f} MB in {folder}", *notes]
    if found.entry is not None:
        lines.append(f"{found.entry.title}; licence {found.entry.licence}; doi:{found.entry.citation}")
    return [*lines, f"next: scmodelforge embed cells.h5ad embedded.h5ad --model {known_as}"]


def _looked_at(folder: Path) -> list[str]:
    """Refuse a model folder of ours that cannot be used, and return what is to be known of it."""
    path = folder / "config.json"
    settings = read_json_object(path, "the model cannot be read") if path.is_file() else {}
    if "format_version" not in settings:
        return []  # of others: whoever reads it says what is wrong with it
    try:
        parts = load_parts(folder)
    except ConfigError:
        if not settings.get("plugins"):
            raise
        names = ", ".join(settings["plugins"])
        return [f"it needs Python code of its own ({names}), which was not run: read it before you use --trust-plugins"]
    return [f"{parts.model_config.architecture}, {len(parts.vocab.genes):,} genes, {parts.tokenizer.describe()}"]
