"""Published dictionaries are fetched once and checked; :mod:`scmodelforge.hub.dictionaries` finds them again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge.hub.dictionaries import HUB, dictionaries_home
from scmodelforge.tokenizers.presets import Preset, get_preset
from scmodelforge.training._files import MANIFEST, write_manifest

__all__ = ["fetch_dictionaries"]


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
    """
    preset = get_preset(name)
    home = dictionaries_home(preset)
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


def _copy(preset: Preset, source: Path, folder: Path) -> None:
    for name in preset.files_in(source):
        try:
            shutil.copyfile(source / name, folder / name)
        except OSError as problem:
            msg = f"{source / name} cannot be copied to {folder} ({problem.strerror})."
            raise DataError(msg) from problem


def _download(preset: Preset, folder: Path, *, endpoint: str | None) -> None:
    from huggingface_hub import errors, hf_hub_download

    # What the hub's package and the package it uses for HTTP raise; the latter is another one in each version.
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *errors.HfHubHTTPError.__bases__)
    for file in preset.published:
        place = f"{file.place}/{file.name}" if file.place else file.name
        try:
            found = hf_hub_download(
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
