"""The card of a model folder: made anew of the facts that are there, printed, written or pushed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.eval.base import Record
from scmodelforge.eval.records import read_records
from scmodelforge.hub.addresses import LocalFolder, parse_address
from scmodelforge.hub.bundle import Bundle, BundleParts, load_parts
from scmodelforge.hub.locate import locate
from scmodelforge.training._files import write_text
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.card_text import is_edited, kept_scores, stated_licence, with_licence

__all__ = ["CardOfFolder", "card_of_folder", "renewed_card", "require_our_folder", "run_of"]


@dataclass(frozen=True)
class CardOfFolder:
    """A card and what is to be said of it.

    Attributes
    ----------
    text
        The card.
    notes
        Lines for the user.
    """

    text: str
    notes: list[str]


def renewed_card(
    model: str | Path, *, licence: str | None = None, write: bool, force: bool = False, trust_plugins: bool = False
) -> CardOfFolder:
    """Return the card of a model, made of the facts of its folder, and write it there if asked to.

    Parameters
    ----------
    model
        Address of the model; of a run folder it is the exported model, with the scores of the run.
    licence
        Of the weights; ``None`` is that which the card states now.
    write
        Replace ``README.md`` of the model folder.
    force
        Also if someone edited it.
    trust_plugins
        Import the Python files the model folder names.

    Raises
    ------
    ConfigError, DataError
        If there is no such model, or its card may not be written.
    """
    place = parse_address(model)
    if write and not isinstance(place, LocalFolder):
        msg = f"{model}: only the card of a folder on this machine can be written; fetch it first: hub pull {model}"
        raise ConfigError(msg)
    folder = locate(place).folder
    require_our_folder(folder)
    path = folder / "README.md"
    if write and not force and path.is_file() and is_edited(_read(path)):
        msg = f"{path} was edited, and would be made anew; keep it, or replace it with --force."
        raise DataError(msg)
    address = None if isinstance(place, LocalFolder) else str(model)
    parts = load_parts(folder, trust_plugins=trust_plugins or run_of(folder) is not None)
    text = _made(parts, folder, licence=licence, address=address)
    if write:
        write_text(path, text)
    return CardOfFolder(text, [f"card: {path}"] if write else [])


def card_of_folder(model: Bundle, folder: Path, *, address: str | None, licence: str | None) -> CardOfFolder:
    """Return the card that a model is shared with: one that someone edited as it is, else one made of the facts."""
    path = folder / "README.md"
    text = _read(path) if path.is_file() else ""
    notes = []
    if text and is_edited(text):
        notes.append(f"{path} was edited and is taken as it is")
        text = text if licence is None else with_licence(text, licence)
    else:
        text = _made(model, folder, licence=licence, address=address)
    if stated_licence(text) is None:
        notes.append("no licence is stated, so others may not use the model; state one with --licence")
    return CardOfFolder(text, notes)


def run_of(folder: Path) -> Path | None:
    """Return the run folder that a model folder is the exported model of, ``None`` if it is of none."""
    return folder.parent if folder.name == "model" and (folder.parent / "run.json").is_file() else None


def require_our_folder(folder: Path) -> None:
    """Make sure that a folder is a model folder of ours.

    Raises
    ------
    DataError
        If it is not.
    """
    try:
        is_ours = "format_version" in read_json_object(folder / "config.json", "")
    except DataError:
        is_ours = False
    if not is_ours:
        msg = (
            f"{folder} is no model folder of ours, nor a run folder with an exported model; a published model is "
            "imported first: scmodelforge hub import"
        )
        raise DataError(msg)


def _made(model: Bundle | BundleParts, folder: Path, *, licence: str | None, address: str | None) -> str:
    now = _read(folder / "README.md") if (folder / "README.md").is_file() else ""
    return model_card(
        model,
        records=_records(folder),
        kept=kept_scores(now),
        address=address,
        licence=licence or stated_licence(now),
    )


def _records(folder: Path) -> list[Record]:
    run = run_of(folder)
    results = run / "exported_results.jsonl" if run is not None else None
    return read_records(results) if results is not None and results.is_file() else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        msg = f"{path}: cannot be read as a card ({problem}); remove it, or write it as text in UTF-8."
        raise DataError(msg) from problem
