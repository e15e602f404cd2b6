"""A published model becomes a model folder of ours."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.hub.addresses import LocalFolder, parse_address
from scmodelforge.hub.bundle import save_bundle
from scmodelforge.hub.importers.base import Imported, find_importer
from scmodelforge.hub.locate import locate
from scmodelforge.hub.pretrained import PretrainedModel, list_pretrained
from scmodelforge.workflows.imported_card import imported_card

__all__ = ["import_model"]


def import_model(
    source: str | Path,
    out: Path,
    *,
    dictionaries: Path | None = None,
    importer: str | None = None,
    force: bool = False,
) -> list[str]:
    """Write a published model as a model folder: whole, or not at all.

    Parameters
    ----------
    source
        Address of the model: a folder as it was published, or where it is to be fetched.
    out
        Folder to write.
    dictionaries
        Folder with the dictionaries of its representation; ``None`` takes those beside it, or those that were fetched.
    importer
        What reads it; ``None`` takes what the list of published models says, or what recognises the folder.
    force
        Replace a model folder that is there.

    Returns
    -------
    Lines for the user: the load report, what was written, the next command.

    Raises
    ------
    ConfigError, DataError
        If there is no such model or importer, it is not what was published, or the folder cannot be written.
    """
    _check_target(out, force=force)
    address = parse_address(source)
    located = locate(address)
    if _is_ours(located.folder):
        msg = f"{located.folder} is a model folder of ours already: nothing to import; load or copy it as it is."
        raise DataError(msg)
    entry = located.entry
    name, reader = find_importer(located.folder, importer or (entry.importer if entry else None))
    sha256 = {file.path: file.sha256 for file in entry.files if file.sha256} if entry else None
    imported = reader.load(located.folder, dictionaries=dictionaries, sha256=sha256)
    entry = entry or _entry_of(imported)
    _require_tokens(imported, entry)
    facts = imported.bundle.fingerprint["imported_from"]
    facts |= {"load_report": imported.report.lines(), **_published_facts(entry)}
    if not isinstance(address, LocalFolder):  # where it is on this machine is nobody else's business
        facts["origin"] = located.origin
    _write(imported, out)
    vocab = imported.bundle.vocab
    return [
        *imported.report.lines(),
        f"{entry.title if entry else name}: {len(vocab):,} tokens, written to {out}",
        f"licence: {entry.licence if entry else 'not known; ask those who published it'}",
        f"next: scmodelforge embed cells.h5ad embedded.h5ad --model {out}",
    ]


def _check_target(out: Path, *, force: bool) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not force:
            msg = f"{out} exists; choose another name, or replace it with --force."
            raise DataError(msg)
        if not _is_ours(out):
            msg = f"{out} is no model folder, so it is not replaced; choose another name."
            raise DataError(msg)


def _is_ours(folder: Path) -> bool:
    try:
        return "format_version" in read_json_object(folder / "config.json", "")
    except DataError:
        return False


def _entry_of(imported: Imported) -> PretrainedModel | None:
    """Return what the list says of weights that are in it, by their sha256."""
    found = set(imported.bundle.fingerprint["imported_from"]["files"].values())
    return next((each for each in list_pretrained() if found & {file.sha256 for file in each.files}), None)


def _require_tokens(imported: Imported, entry: PretrainedModel | None) -> None:
    found = len(imported.bundle.vocab)
    if entry is not None and found != entry.vocabulary.num_tokens:
        msg = (
            f"the model has {found:,} tokens, and {entry.name} {entry.vocabulary.num_tokens:,}: it is another one; "
            "fetch it again."
        )
        raise DataError(msg)


def _published_facts(entry: PretrainedModel | None) -> dict[str, Any]:
    if entry is None:
        return {}
    facts = {name: getattr(entry, name) for name in ("name", "title", "page", "licence", "citation", "species")}
    return facts | ({"repository": entry.hub.repository} if entry.hub else {})


def _write(imported: Imported, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as problem:
        msg = f"cannot write to {out.parent} ({problem.strerror}); choose a folder you may write to."
        raise DataError(msg) from problem
    try:
        save_bundle(staging / "new", imported.bundle, card=imported_card(imported.bundle))
        if out.exists():
            out.rename(staging / "old")
        (staging / "new").rename(out)
    except OSError as problem:
        msg = f"{out} cannot be written ({problem.strerror})."
        raise DataError(msg) from problem
    finally:
        if not out.exists() and (staging / "old").exists():
            (staging / "old").rename(out)
        shutil.rmtree(staging, ignore_errors=True)
