"""Brings a data set's file to this machine: from its address, a mirror, or another place on this machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.datasets.contents import check_contents, differences
from scmodelforge.datasets.download import Patience, Progress, download, forget_part, shown_address
from scmodelforge.datasets.entries import DatasetInfo
from scmodelforge.datasets.registry import info, path
from scmodelforge.datasets.store import (
    MIRROR_VARIABLE,
    Pin,
    data_folder,
    file_digest,
    how_to_fetch,
    kept_file,
    locked,
    read_pin,
)

__all__ = ["fetch"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(
    name: str,
    *,
    origin: str | None = None,
    sha256: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> list[str]:
    """Bring a data set's file to this machine, check it and pin its checksum.

    It appears under its name when all of it has arrived and was checked, and not before. A download that broke off
    goes on; of several processes one fetches and the others wait.

    Parameters
    ----------
    name
        Name of the data set.
    origin
        Address (``http://``, ``https://``), file, or folder with ``NAME.h5ad``; ``None`` is the mirror named in the
        environment, else the registry's address.
    sha256
        Checksum the file must have, where it is known from elsewhere.
    force
        Replace a file that is there, whatever its checksum was.
    progress
        Is told the bytes that have arrived, and of how many.
    patience
        How long is waited for a server.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    ConfigError, DataError
        If there is no such data set, or its file cannot be had, is not what it must be or cannot be kept.
    """
    data = info(name)
    sha256 = _checksum(data, sha256)
    if data.is_shipped:
        return [f"{name} comes with the package: {path(name)}", *_terms(data)]
    file = data_folder() / f"{name}.h5ad"
    was_there = file.is_file() and not force
    if not was_there:
        source = _source(data, origin)
        _make(file.parent)
        with locked(file.parent, name):
            if force or not file.is_file():  # else another process has brought it meanwhile
                _bring(data, source, file, sha256, force=force, progress=progress, patience=patience or Patience())
    kept_file(data)
    _refuse_other(file, data, sha256)
    return [
        *_about(file, data, was_there=was_there),
        *_terms(data),
        f"next: dataset://{name} in data.paths, or dataset: {name} of a benchmark",
    ]


def _bring(
    data: DatasetInfo,
    source: str | Path,
    file: Path,
    sha256: str | None,
    *,
    force: bool,
    progress: Progress | None,
    patience: Patience,
) -> None:
    """Put the file of a data set in its place, with its pin, after all checks."""
    pin_path, part = _pin_path(file), file.with_suffix(".h5ad.part")
    wanted = _wanted(data, sha256, None if force else read_pin(pin_path))
    if isinstance(source, Path):
        _copy(source, part, progress)
        shown = str(source)
    else:
        download(source, part, patience=patience, progress=progress)
        shown = shown_address(source)
    found = _checked(part, data, wanted, shown)
    if force:
        pin_path.unlink(missing_ok=True)  # of the file that is replaced now
    part.replace(file)
    forget_part(part)
    Pin.of(file, found, origin=shown).write(pin_path)


def _source(data: DatasetInfo, origin: str | None) -> str | Path:
    """Return where the file comes from: an address or a file."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    if origin is None and mirror:
        if not re.match(r"https?://[^/]", mirror):
            msg = f"{MIRROR_VARIABLE} is '{mirror}'; the address of a folder on a server is needed (https://...)."
            raise ConfigError(msg)
        return f"{mirror.rstrip('/')}/{data.name}.h5ad"
    if origin is None and data.url is None:
        msg = f"no address of '{data.name}' is known for sure; {how_to_fetch(data)}."
        raise DataError(msg)
    place = origin or str(data.url)
    if re.match(r"https?://[^/]", place):
        return place
    if "://" in place:
        msg = f"--from {place}: https://, http://, a file or a folder is needed; download the file first."
        raise ConfigError(msg)
    local = Path(place).expanduser()
    if local.is_dir():
        local = local / f"{data.name}.h5ad"
    if not local.is_file():
        msg = f"--from {place}: no file '{local}'; correct the path."
        raise DataError(msg)
    return local


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as problem:
        msg = f"cannot write to {folder} ({problem.strerror}); name another folder in SCMODELFORGE_DATASETS."
        raise DataError(msg) from problem


def _checksum(data: DatasetInfo, given: str | None) -> str | None:
    """Return the checksum that a user gave, as it is written here."""
    if given is None:
        return None
    if not _SHA256.fullmatch(given.lower()):
        msg = f"--sha256 is '{given}'; 64 digits of 0-9 and a-f are needed."
        raise ConfigError(msg)
    if data.sha256 not in (None, given.lower()):
        msg = f"--sha256 is not the checksum that is published of '{data.name}' ({data.sha256}); leave it out."
        raise ConfigError(msg)
    return given.lower()


def _wanted(data: DatasetInfo, sha256: str | None, pin: Pin | None) -> tuple[str, str] | None:
    """Return the checksum the file must have and who says so."""
    if data.sha256 is not None:
        return data.sha256, "published is"
    if pin is not None and sha256 not in (None, pin.sha256):
        msg = f"--sha256 is not the checksum pinned on {pin.pinned} ({pin.sha256}); leave it out, or add --force."
        raise DataError(msg)
    if sha256 is not None:
        return sha256, "--sha256 is"
    return None if pin is None else (pin.sha256, f"pinned on {pin.pinned} was")


def _copy(source: Path, part: Path, progress: Progress | None) -> None:
    forget_part(part)
    total = source.stat().st_size
    try:
        free = shutil.disk_usage(part.parent).free
        if total > free:
            raise OSError(28, os.strerror(28))
        with source.open("rb") as read, part.open("wb") as written:
            while block := read.read(8 << 20):
                written.write(block)
                if progress is not None:
                    progress(written.tell(), total)
    except OSError as problem:
        forget_part(part)
        msg = f"{source} cannot be copied to {part.parent} ({problem.strerror})."
        raise DataError(msg) from problem


def _checked(part: Path, data: DatasetInfo, wanted: tuple[str, str] | None, shown: str) -> str:
    """Return the sha256 of what arrived, or remove it and say what is wrong with it."""
    found = file_digest(part)
    try:
        if wanted is not None and found != wanted[0]:
            msg = (
                f"{shown} has the sha256 {found}, but {wanted[1]} {wanted[0]}; what arrived was removed. Get the file "
                "elsewhere, or if it has rightly changed: --force."
            )
            raise DataError(msg)
        check_contents(part, data, origin=shown)
    except DataError:
        forget_part(part)
        raise
    with part.open("rb") as file:
        os.fsync(file.fileno())
    return found


def _refuse_other(file: Path, data: DatasetInfo, sha256: str | None) -> None:
    """Refuse the file that is there, if another one was asked for."""
    pin = read_pin(_pin_path(file))
    if sha256 is not None and pin is not None and pin.sha256 != sha256:
        msg = (
            f"{file} is there and has the sha256 {pin.sha256}, not that of --sha256; replace it with: scmodelforge "
            f"datasets fetch {data.name} --force"
        )
        raise DataError(msg)


def _about(file: Path, data: DatasetInfo, *, was_there: bool) -> list[str]:
    lines = [f"{data.name}: {file} ({file.stat().st_size / 1e6:,.1f} MB{', there already' if was_there else ''})"]
    pin = read_pin(_pin_path(file))
    if pin is not None:
        why = "as published" if data.sha256 else f"pinned on {pin.pinned}, as none is published"
        lines.append(f"sha256 {pin.sha256}, {why}; from {pin.origin}")
    split = [f"split: {data.split.describe()}"] if data.split is not None else []
    return [*lines, *differences(file, data), *split]


def _pin_path(file: Path) -> Path:
    return file.with_name(f"{file.stem}.pin.json")


def _terms(data: DatasetInfo) -> list[str]:
    limit = "; not for commercial use" if data.is_non_commercial else ""
    return [f"licence: {data.licence}{limit} (what the source says holds)", f"cite: {data.citation}"]
