"""Published dictionaries on this machine: fetched once, checked, found again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge._places import cache_folder
from scmodelforge.tokenizers.presets import Preset, get_preset
from scmodelforge.training._files import MANIFEST, find_damage, write_manifest

__all__ = ["fetch_dictionaries", "find_dictionaries"]

HUB = "hub"


def find_dictionaries(preset: Preset, given: Path | None) -> Path:
    """Return the folder with a preset's dictionaries.

    Parameters
    ----------
    preset
        The preset.
    given
        Folder named by the user; ``None`` takes what was fetched.

    Raises
    ------
    DataError
        If nothing was fetched, or what was fetched is damaged; the message says how to get it.
    """
    if given is not None:
        return given
    folder = _home(preset)
    if not (folder / MANIFEST).is_file():
        msg = (
            f"the dictionaries of {preset.name} are not on this machine; fetch them with: scmodelforge tokenizer fetch "
            f"{preset.name} --from {HUB}, or name a folder that has them with --dictionaries."
        )
        raise DataError(msg)
    damage = find_damage(folder)
    if damage is not None:
        msg = f"{folder}: {damage}; fetch it again with: scmodelforge tokenizer fetch {preset.name} --from {HUB}"
        raise DataError(msg)
    return folder


def fetch_dictionaries(name: str, source: str, *, endpoint: str | None = None) -> list[str]:
    """Copy a preset's dictionaries to where commands find them.

    Files from the hub, and pickles from a folder, have their published checksum, or are refused. What was there before
    is replaced as a whole, or stays as it was.

    Parameters
    ----------
    name
        Name of the preset.
    source
        ``hub``, or a folder with the published files or the tables of the same content.
    endpoint
        Address of the hub; ``None`` is the usual one.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    ConfigError, DataError
        If there is no such preset, the files cannot be had, are damaged or cannot be kept.
    ImportError
        If the hub is asked and its package is not installed.
    """
    preset = get_preset(name)
    home = _home(preset)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{preset.name}.", dir=home.parent))
    except OSError as problem:
        msg = (
            f"cannot write to {home.parent} ({problem.strerror}); name another folder in the variable "
            "SCMODELFORGE_CACHE."
        )
        raise DataError(msg) from problem
    try:
        folder = staging / "files"
        folder.mkdir()
        if source == HUB and not preset.published:
            msg = (
                f"{preset.name} is not on the hub in a form that could be checked; download the published model, and "
                f"give its folder: scmodelforge tokenizer fetch {preset.name} --from DIR"
            )
            raise DataError(msg)
        if source == HUB:
            _download(preset, folder, endpoint=endpoint)
        else:
            _copy(preset, Path(source), folder)
        try:
            tokenizer = preset.make(folder, {})  # reads and checks all of it
        except DataError as problem:
            place = preset.repository if source == HUB else source
            raise DataError(str(problem).replace(str(folder), str(place))) from problem
        write_manifest(folder)
        if home.exists():
            home.rename(staging / "old")
        folder.rename(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    files = sorted(path.name for path in home.iterdir() if path.name != MANIFEST)
    return [
        f"{preset.name}: {len(tokenizer.vocab):,} tokens in {home} ({', '.join(files)})",
        f"next: scmodelforge tokenize cells.h5ad tokens.parquet --preset {preset.name}",
    ]


def _home(preset: Preset) -> Path:
    return cache_folder() / "dictionaries" / preset.name


def _copy(preset: Preset, source: Path, folder: Path) -> None:
    for name in preset.files_in(source):
        try:
            shutil.copyfile(source / name, folder / name)
        except OSError as problem:
            msg = f"{source / name} cannot be copied to {folder} ({problem.strerror})."
            raise DataError(msg) from problem


def _download(preset: Preset, folder: Path, *, endpoint: str | None) -> None:
    hub, errors = (
        require(module, extra="hub", why="Fetching dictionaries from the hub")
        for module in ("huggingface_hub", "huggingface_hub.errors")
    )
    # What the hub's package and the package it uses for HTTP raise; the latter is another one in each version.
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *errors.HfHubHTTPError.__bases__)
    for file in preset.published:
        place = f"{file.place}/{file.name}" if file.place else file.name
        try:
            found = hub.hf_hub_download(
                preset.repository, place, local_dir=folder.parent / "download", endpoint=endpoint, token=False
            )
        except failures as problem:
            reason = " ".join(str(problem).split())
            msg = (
                f"{preset.repository} does not give {place} ({type(problem).__name__}: {reason:.200}); download the "
                f"files elsewhere and give their folder: scmodelforge tokenizer fetch {preset.name} --from DIR"
            )
            raise DataError(msg) from problem
        Path(found).rename(folder / file.name)
