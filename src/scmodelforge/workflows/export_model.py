"""A model written for others: as a model folder, or as a package for CZI's Virtual Cells Platform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scmodelforge._errors import ConfigError, RunError, UserError, nearest
from scmodelforge.config.load import load_config
from scmodelforge.hub.adapters import ADAPTER_FILES
from scmodelforge.hub.addresses import LocalFolder
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.load import load_model
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push_check import differences, try_model
from scmodelforge.workflows.card_files import card_of_folder, require_our_folder, run_of
from scmodelforge.workflows.export_adapter import write_adapter, write_merged
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
        One of :data:`FORMATS`, or ``adapter`` or ``merged`` of a model with low-rank adapters.
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
    there = (*FORMATS, *_OF_ADAPTERS)
    if form not in there:
        msg = f"unknown format '{form}'.{nearest(form, there)} There are: {', '.join(there)}."
        raise ConfigError(msg)
    folder = locate(LocalFolder(model)).folder
    require_our_folder(folder)
    bundle = load_bundle(folder, trust_plugins=trust_plugins or run_of(folder.resolve()) is not None)
    card = card_of_folder(bundle, folder, address=None, licence=licence)
    with new_folder(out, force=force, made_by_us=("config.json", MODEL_DATA, ADAPTER_FILES[0])) as new:
        if form in _OF_ADAPTERS:
            lines = [f"{form}: {out}"]
            if form == "adapter":
                lines += write_adapter(bundle, card.text, new, _base_of(folder, bundle))
            else:
                lines += write_merged(bundle, card.text, new)
            return [*card.notes, *lines]
        written, lines = FORMATS[form](bundle, card.text, new)
        # What it needs of its plugins was registered when it was loaded; nothing else of them is run.
        found = differences(bundle, load_bundle(new / written), try_model(bundle))
        if found:
            msg = f"{out} was not written: read again it differs from {model} in {'; '.join(found)}."
            raise RunError(msg)
    return [*card.notes, f"{form}: {out}, read again and compared: the same weights and embeddings", *lines]


def _base_of(folder: Path, bundle: Bundle) -> Bundle | None:
    """Return the base model of a run's model, if the run says where it is and it is there."""
    run = run_of(folder.resolve())
    own = None if run is None else load_config(run / "config.yaml").finetune
    if own is None:
        return None
    try:
        base = load_model(own.base_model, dictionaries=own.dictionaries, offline=True, trust_plugins=own.trust_plugins)
    except UserError:
        return None
    return base if base.model_id == bundle.fingerprint.get("fine_tuned_from") else None


def _as_folder(bundle: Bundle, card: str, folder: Path) -> tuple[Path, list[str]]:
    save_bundle(folder, bundle, card=card)
    return Path(), []


#: Forms of a model with low-rank adapters: these and its head alone, or all weights with the adapters in them.
_OF_ADAPTERS = ("adapter", "merged")
#: What writes a form: it returns where in the folder the model is, and lines for the user.
FORMATS: dict[str, Callable[[Bundle, str, Path], tuple[Path, list[str]]]] = {
    "folder": _as_folder,
    "vcp": write_package,
}
