"""Where a model is: a folder, a repository on the Hugging Face hub, or a name in our registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import ConfigError

__all__ = ["Address", "HubRepository", "LocalFolder", "NamedModel", "parse_address"]

_HUB, _NAMED = "hf://", "scmodelforge://"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[^/@]+))?(/(?P<folder>.+?))?/?")


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine.

    Attributes
    ----------
    path
        The folder, whether it exists or not.
    """

    path: Path


@dataclass(frozen=True)
class HubRepository:
    """A repository on the hub, or a folder in it.

    Attributes
    ----------
    repo_id
        ``owner/name``.
    revision
        Branch, tag or commit; ``None`` is the repository's main branch.
    folder
        Folder in the repository; empty is its top.
    """

    repo_id: str
    revision: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class NamedModel:
    """A model of the registry.

    Attributes
    ----------
    name
        In lower case.
    """

    name: str


Address = LocalFolder | HubRepository | NamedModel


def parse_address(text: str | Path) -> Address:
    """Return what an address means. Nothing is looked up.

    Parameters
    ----------
    text
        ``path/to/folder``, ``hf://owner/name[@revision][/folder]`` or ``scmodelforge://name``; schemes and names of the
        registry in any case.

    Raises
    ------
    ConfigError
        If it is of another form.
    """
    if isinstance(text, Path):
        return LocalFolder(text)
    given = text.strip()
    scheme = given[: given.find("://") + 3].lower() if "://" in given else ""
    rest = given[len(scheme) :]
    if scheme == _HUB:
        found = _REPOSITORY.fullmatch(rest)
        if found is None or ".." in Path(found["folder"] or "").parts:
            msg = f"{text}: an address on the hub is hf://owner/name, with @revision and /folder behind it if needed."
            raise ConfigError(msg)
        return HubRepository(found["repo"], found["revision"], found["folder"] or "")
    if scheme == _NAMED:
        if not re.fullmatch(_PART, rest):
            msg = (
                f"{text}: name a model, such as scmodelforge://geneformer-v2; 'scmodelforge models list --pretrained'."
            )
            raise ConfigError(msg)
        return NamedModel(rest.lower())
    if scheme:
        msg = f"{text}: unknown scheme '{scheme}'; give a folder, hf://owner/name or scmodelforge://name."
        raise ConfigError(msg)
    if not given:
        msg = "an empty address; give a folder, hf://owner/name or scmodelforge://name."
        raise ConfigError(msg)
    return LocalFolder(Path(given).expanduser())
