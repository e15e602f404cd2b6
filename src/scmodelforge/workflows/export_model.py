"""A model written for others: as a model folder, or as a package for CZI's Virtual Cells Platform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scmodelforge._errors import ConfigError, RunError, nearest
from scmodelforge.hub.addresses import LocalFolder
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push_check import differences, try_model
from scmodelforge.workflows.card_files import card_of_folder, require_our_folder, run_of
from scmodelforge.workflows.model_folders import new_folder
from scmodelforge.workflows.vcp_package import MODEL_DATA, write_package

__all__ = ["FORMATS", "export_model"]


def export_model(
    model: Path,
    out: Path,
    *,
    form: str = "folder",
    licence: str | None = None,
    force: bool = False,
    trust_plugins: bool = False,
) -> list[str]:
    """Write a model in a form that others read, load it back and compare.

    Parameters
    ----------
    model
        Model folder, or run folder (its exported model).
    out
        Folder to write.
    form
        One of :data:`FORMATS`.
    licence
        Of the weights; ``None`` is that of the folder's card.
    force
        Replace an export that is there.
    trust_plugins
        Import the Python files the model folder names; those of a run are.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    ConfigError, DataError
        If there is no such model or form, or the folder cannot be written.
    RunError
        If what was written is not the model.
    """
    if form not in FORMATS:
        msg = f"unknown format '{form}'.{nearest(form, FORMATS)} There are: {', '.join(FORMATS)}."
        raise ConfigError(msg)
    folder = locate(LocalFolder(model)).folder
    require_our_folder(folder)
    bundle = load_bundle(folder, trust_plugins=trust_plugins or run_of(folder.resolve()) is not None)
    card = card_of_folder(bundle, folder, address=None, licence=licence)
    with new_folder(out, force=force, made_by_us=("config.json", MODEL_DATA)) as new:
        written, lines = FORMATS[form](bundle, card.text, new)
        found = differences(bundle, load_bundle(new / written, trust_plugins=True), try_model(bundle))
        if found:
            msg = f"{out} was not written: read again it differs from {model} in {'; '.join(found)}."
            raise RunError(msg)
    return [*card.notes, f"{form}: {out}, read again and compared: the same weights and embeddings", *lines]


def _as_folder(bundle: Bundle, card: str, folder: Path) -> tuple[Path, list[str]]:
    save_bundle(folder, bundle, card=card)
    return Path(), []


#: What writes a form: it returns where in the folder the model is, and lines for the user.
FORMATS: dict[str, Callable[[Bundle, str, Path], tuple[Path, list[str]]]] = {
    "folder": _as_folder,
    "vcp": write_package,
}
