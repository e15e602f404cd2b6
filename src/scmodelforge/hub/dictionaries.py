"""Published dictionaries that were fetched: where they are on this machine."""

from __future__ import annotations

from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._places import cache_folder
from scmodelforge.tokenizers.presets import Preset
from scmodelforge.training._files import MANIFEST, find_damage

__all__ = ["HUB", "dictionaries_home", "find_dictionaries"]

#: What stands for the hub where a place is named.
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
    folder = dictionaries_home(preset)
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


def dictionaries_home(preset: Preset) -> Path:
    """Return the folder that a preset's dictionaries are kept in once they are fetched."""
    return cache_folder() / "dictionaries" / preset.name
