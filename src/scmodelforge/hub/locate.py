"""From the address of a model to a folder on this machine."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scmodelforge._errors import DataError, nearest
from scmodelforge.hub.addresses import Address, HubRepository, LocalFolder
from scmodelforge.hub.checksums import check_published
from scmodelforge.hub.fetch import Fetch, Wanted
from scmodelforge.hub.pretrained import PretrainedModel, get_pretrained, list_pretrained, own_folder

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


def locate(
    address: Address,
    *,
    offline: bool = False,
    endpoint: str | None = None,
    token: str | bool | None = None,
    cache: Path | None = None,
    anew: bool = False,
) -> Located:
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
    token
        As the hub's client takes it; ``None`` is the one it finds, in ``HF_TOKEN`` or where ``hf auth login`` puts it.
    cache
        Folder of the client's cache; ``None`` is the usual one, or ``HF_HUB_CACHE``.
    anew
        Fetch from the hub again what is in the cache.

    Raises
    ------
    ConfigError
        If the registry has no such name, or the token cannot be one.
    DataError
        If the files are not here and cannot be fetched: the message has the exact command that fetches them elsewhere,
        and where to put them. If a file is not the published one.
    """
    fetch = Fetch(offline=offline, endpoint=endpoint, token=token, cache=cache, anew=anew)
    if isinstance(address, LocalFolder):
        if not address.path.is_dir():
            raise DataError(_no_folder(address.path))
        model = address.path / "model"
        return Located(model if (model / "config.json").is_file() else address.path, str(address.path))
    if isinstance(address, HubRepository):
        return _in_repository(address, fetch)
    return _by_name(get_pretrained(address.name), fetch)


def _no_folder(path: Path) -> str:
    """Return the message for a path that is no folder, with what may have been meant."""
    if path.exists():
        return f"{path} is a file; give the model's folder, or the folder of a run."
    said, text = f"{path}: no such folder", str(path)
    if text.lower() in {model.name for model in list_pretrained()}:
        return f"{said}. Did you mean scmodelforge://{text.lower()}?"
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    if near:
        return f"{said}.{near} Correct the path, or give hf://owner/name or scmodelforge://name."
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text):
        return f"{said}; correct the path. For a repository on the hub give hf://{text}."
    return f"{said}; correct the path, or give hf://owner/name or scmodelforge://name."


def _in_repository(place: HubRepository, fetch: Fetch) -> Located:
    files = [f"{glob.escape(place.folder)}/*"] if place.folder else []
    root = fetch.snapshot(Wanted(place, str(place), files, lambda reason: _absent(place, reason)))
    folder = root / place.folder
    if not folder.is_dir() or not any(folder.iterdir()):
        what = f"no folder '{place.folder}'" if place.folder else "no file"
        page = f"https://huggingface.co/{place.repo_id}/tree/{place.revision or 'main'}"
        msg = f"hf://{place.repo_id}: there is {what} in the repository; see {page}."
        raise DataError(msg)
    return Located(folder, str(replace(place, revision=root.name)))


def _by_name(entry: PretrainedModel, fetch: Fetch) -> Located:
    name, own = f"scmodelforge://{entry.name}", own_folder(entry)
    files = [each.path for each in entry.files]
    is_here = all((own / file).is_file() for file in files)
    if not is_here and entry.hub is None:
        msg = (
            f"{name}: it is not on the hub; download {', '.join(files)} from {entry.page} into {own}, and use this "
            "address again."
        )
        raise DataError(msg)
    if is_here or entry.hub is None:
        check_published(own, entry.files, again=f"download it from {entry.page} into {own}")
        return Located(own, name, entry)
    place = HubRepository(entry.hub.repository, entry.hub.revision, entry.hub.folder)
    wanted = [f"{place.folder}/{file}" if place.folder else file for file in files]
    patterns = [glob.escape(each) for each in wanted]
    root = fetch.snapshot(
        Wanted(place, name, patterns, lambda reason: _absent_by_name(name, place, wanted, own, reason))
    )
    check_published(root / place.folder, entry.files, again=f"fetch it again: scmodelforge hub pull {name}")
    return Located(root / place.folder, f"{name} ({replace(place, revision=root.name)})", entry)


def _absent(place: HubRepository, reason: str) -> str:
    folder = place.repo_id.rpartition("/")[2]
    only = ["--include", f"{place.folder}/*"] if place.folder else []
    there = str(Path(folder, place.folder))
    return (
        f"hf://{place.repo_id}: not whole on this machine, and {reason}. Where there is a network: "
        f"{_command(place, only, folder)}; copy the folder {there} here and give its path in place of the address."
    )


def _absent_by_name(name: str, place: HubRepository, files: list[str], own: Path, reason: str) -> str:
    folder = own.name
    return (
        f"{name}: not whole on this machine, and {reason}. Where there is a network: {_command(place, files, folder)}; "
        f"copy the folder {Path(folder, place.folder)} to {own} here, and use this address again."
    )


def _command(place: HubRepository, words: Sequence[str], folder: str) -> str:
    revision = ["--revision", place.revision] if place.revision else []
    return shlex.join(["hf", "download", place.repo_id, *words, *revision, "--local-dir", folder])
