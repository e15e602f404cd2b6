"""What reads a published model, and what it says about the weights it found.

A new one is a file here with a class under ``@register_importer("name")`` that satisfies :class:`Importer`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scmodelforge._errors import ConfigError, DataError, listed, nearest
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.checksums import sha256_of

__all__ = [
    "Imported",
    "Importer",
    "LoadReport",
    "check_files",
    "check_release",
    "find_importer",
    "holdings",
    "imported_from",
    "register_importer",
]

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=type)
_MOST = 3  # names in a line
_MOST_FILES = 6


@dataclass(frozen=True)
class LoadReport:
    """What became of published weights. Names are the published ones.

    Attributes
    ----------
    matched
        Names in the files that weights of the model are from.
    missing
        Names that the files lack; the model's weights there are as they were drawn.
    unexpected
        Names in the files that the model has no place for.
    reshaped
        Those of ``matched`` whose numbers were cut, split or put together.
    body
        Beginnings of names of the model's body: all but heads. A missing one of these is refused.
    """

    matched: list[str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    body: tuple[str, ...] = ()

    def check(self, origin: str) -> None:
        """Refuse a model whose body was not read, or a head in part.

        Parameters
        ----------
        origin
            What messages call the weights.

        Raises
        ------
        DataError
            If weights of the body are missing or left over, or some of a head but not all.
        """
        faults = [name for name in (*self.missing, *self.unexpected) if name.startswith(self.body)]
        begun = {_head(name) for name in self.matched if not name.startswith(self.body)}
        torn = [name for name in (*self.missing, *self.unexpected) if name not in faults and _head(name) in begun]
        for what, found in (("the body of the model was not read", faults), ("a head is there in part", torn)):
            if found:
                told = "; ".join(
                    f"{listed(names, _MOST)} {word}"
                    for word, each in (("missing", self.missing), ("left over", self.unexpected))
                    if (names := [name for name in each if name in found])
                )
                msg = f"{origin}: {what}: {told}; take all files of one model, as they were published."
                raise DataError(msg)

    def warn(self, origin: str) -> None:
        """Log a warning of heads that the files lack."""
        if self.missing:
            heads = ", ".join(dict.fromkeys(map(_head, self.missing)))
            _log.warning(
                f"{origin} has no weights of {heads} ({len(self.missing):,}): what these predict means nothing before "
                "they are trained. Embeddings do not depend on them."
            )

    def lines(self) -> list[str]:
        """Return the report in words: numbers, and the first names of what did not match."""
        found = [f"weights read: {len(self.matched):,}, of these put into another form: {len(self.reshaped):,}"]
        for what, names in (("missing, as they were drawn", self.missing), ("left over", self.unexpected)):
            found.append(f"{what}: {len(names):,}" + (f" ({listed(names, _MOST)})" if names else ""))
        return found


def _head(name: str) -> str:
    return name.partition(".")[0]


@dataclass(frozen=True)
class Imported:
    """A published model in our form.

    Attributes
    ----------
    bundle
        The model with its tokenizer, vocabulary and preprocessing; its fingerprint has ``imported_from``: importer,
        folder name, and sha256 of the files read.
    report
        What became of the weights.
    """

    bundle: Bundle
    report: LoadReport


class Importer(Protocol):
    """Reads the folder of a published model."""

    def recognises(self, folder: Path) -> bool:
        """Tell whether a folder holds such a model, by names of files and their settings alone."""
        ...

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        """Read the model.

        Parameters
        ----------
        folder
            The folder as it was published.
        dictionaries
            Folder with the dictionaries of its representation; ``None`` takes those that were fetched, or its own.
        sha256
            What files of the folder must have, by name.

        Raises
        ------
        DataError
            If files are missing, damaged, not the published ones or of another kind of model, the body of the model
            was not read, or the vocabulary is that of another release.
        """
        ...


def register_importer(name: str) -> Callable[[T], T]:
    """Register an importer class under a name."""
    return IMPORTERS.register(name)


def find_importer(folder: Path, name: str | None = None) -> tuple[str, Importer]:
    """Return what reads a folder, with its name.

    Parameters
    ----------
    folder
        The folder as it was published.
    name
        A registered importer; ``None`` takes the only one that recognises the folder.

    Raises
    ------
    ConfigError
        If there is no such importer.
    DataError
        If none recognises the folder, or several do.
    """
    names = IMPORTERS.names()
    if name is not None:
        if name not in names:
            msg = f"unknown importer '{name}'.{nearest(name, names)} There are: {', '.join(names)}."
            raise ConfigError(msg)
        return name, IMPORTERS.get(name)()
    importers: dict[str, Importer] = {each: IMPORTERS.get(each)() for each in names}
    found = {each: importer for each, importer in importers.items() if importer.recognises(folder)}
    if len(found) > 1:
        msg = f"{folder} could be of several kinds of models ({', '.join(found)}); leave only the files of one there."
        raise DataError(msg)
    if not found:
        msg = (
            f"{folder} is neither a model folder nor a run folder with an exported model, nor of a published model "
            f"that can be imported ({', '.join(names)}): {holdings(folder)}; give the folder that has config.json and "
            "the weights."
        )
        raise DataError(msg)
    return next(iter(found.items()))


def holdings(folder: Path) -> str:
    """Return in words what a folder holds."""
    there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return f"it holds {listed(there, _MOST_FILES)}" if there else "it is empty"


def check_files(folder: Path, names: Iterable[str], *, sha256: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the sha256 of files that are going to be read, before any of them is.

    Files that were looked at before and have not changed are not read for it.

    Parameters
    ----------
    folder
        Where they are.
    names
        Their names; those that are not there are left out.
    sha256
        What files of the folder must have, by name.

    Raises
    ------
    DataError
        If one that must have some sha256 is not there or has another, or one cannot be read.
    """
    wanted = dict(sha256 or {})
    found = {name: sha256_of(folder / name) for name in {**dict.fromkeys(names), **wanted} if (folder / name).is_file()}
    for name, digest in wanted.items():
        if found.get(name) != digest:
            fault = f"its sha256 is {found[name][:12]}..., not {digest[:12]}..." if name in found else "no such file"
            msg = f"{folder / name} is not the published file: {fault}; fetch it again."
            raise DataError(msg)
    return found


def imported_from(
    importer: str, folder: Path, files: Mapping[str, str], dictionaries: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the fingerprint of an imported model.

    Parameters
    ----------
    importer
        Name of what read it.
    folder
        The folder as it was published.
    files
        sha256 of the files that were read of it, by name.
    dictionaries
        sha256 of the files that its representation is from, if these were elsewhere.

    Returns
    -------
    ``imported_from``, and for the model's identity ``config_hash``, of the files, and ``step`` 0.
    """
    facts = {"importer": importer, "folder": folder.resolve().name, "files": dict(files)}
    if dictionaries:
        facts["dictionaries"] = dict(dictionaries)
    content = json.dumps([importer, facts["files"], facts.get("dictionaries")], sort_keys=True)
    return {"config_hash": hashlib.sha256(content.encode()).hexdigest(), "step": 0, "imported_from": facts}


def check_release(num_tokens: int, num_rows: int, origin: str) -> None:
    """Refuse a vocabulary of another release than the weights.

    Parameters
    ----------
    num_tokens
        Tokens of the vocabulary.
    num_rows
        Tokens that the weights have vectors for.
    origin
        What messages call the weights.

    Raises
    ------
    DataError
        If these are not as many.
    """
    if num_tokens != num_rows:
        msg = (
            f"{origin}: the weights have {num_rows:,} tokens and the dictionaries {num_tokens:,}; "
            "take both from one release."
        )
        raise DataError(msg)
