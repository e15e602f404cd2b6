"""A published model becomes a model folder of ours."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import parse_address
from scmodelforge.hub.bundle import save_bundle
from scmodelforge.hub.importers.base import Imported
from scmodelforge.hub.load import import_published, is_model_folder
from scmodelforge.hub.locate import locate
from scmodelforge.hub.pretrained import PretrainedModel
from scmodelforge.hub.published_vocabulary import published_as
from scmodelforge.workflows.card import model_card

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
    located = locate(parse_address(source))
    if is_model_folder(located.folder):
        msg = f"{located.folder} is a model folder of ours already: nothing to import; load or copy it as it is."
        raise DataError(msg)
    name, imported = import_published(located, dictionaries=dictionaries, importer=importer)
    entry = located.entry or published_as(imported.bundle)
    imported.bundle.fingerprint["imported_from"] |= {
        "load_report": imported.report.lines(),
        **_published_facts(entry),
    }
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
        if not is_model_folder(out):
            msg = f"{out} is no model folder, so it is not replaced; choose another name."
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
        save_bundle(staging / "new", imported.bundle, card=model_card(imported.bundle))
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
