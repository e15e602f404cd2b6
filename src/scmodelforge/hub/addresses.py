"""Where a model is: a folder, a repository on the Hugging Face hub, or a name in our registry.

Whatever is built here stays where it should: a folder of a repository never leads out of the files of the repository,
and ``parse_address(str(address)) == address``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from scmodelforge._errors import ConfigError

__all__ = ["Address", "HubRepository", "LocalFolder", "NamedModel", "parse_address"]

_HUB, _NAMED = "hf://", "scmodelforge://"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
#: The hub's own names of pull requests and of converted files, whose slashes belong to the revision.
_REFERENCE = r"refs/(?:pr|convert)/[^/@]+"
_REPOSITORY = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>{_REFERENCE}|[^/@]+))?(/(?P<folder>.+?))?/?")
_PAGE = re.compile(rf"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repo>{_PART}/{_PART})(/.*)?")
#: What git allows in the name of a branch or tag, of each part between slashes, and no more than that.
_REVISION_PART = re.compile(r"(?![.-])(?!.*(\.\.|@\{|\.lock$|\.$))[^\s\x00-\x1f\x7f~^:?*\[\\]+")
_FOLDER_PART = re.compile(r"(?!\.{1,2}$)(?!\s)[^/\\\x00-\x1f\x7f]*[^/\\\x00-\x1f\x7f\s]")


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine.

    Attributes
    ----------
    path
        The folder, whether it exists or not.
    """

    path: Path

    def __str__(self) -> str:
        text = str(self.path)
        return f"./{text}" if text.startswith("~") or not text.strip() else text


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
        Folder in the repository, its parts with ``/`` between them; empty is its top.

    Raises
    ------
    ConfigError
        If the revision is none that git knows, or the folder leads out of the repository.
    """

    repo_id: str
    revision: str | None = None
    folder: str = ""

    def __post_init__(self) -> None:
        parts = self.folder.split("/") if self.folder else []
        if not all(_FOLDER_PART.fullmatch(part) for part in parts):
            msg = f"hf://{self.repo_id}: {self.folder!r} is no folder in a repository; write it as small or small/v2."
            raise ConfigError(msg)
        parts = [] if self.revision is None else self.revision.split("/")
        if not all(_REVISION_PART.fullmatch(part) for part in parts):
            msg = f"hf://{self.repo_id}: {self.revision!r} is no name of a branch, tag or commit; correct it."
            raise ConfigError(msg)

    def __str__(self) -> str:
        text = f"hf://{self.repo_id}"
        if self.revision is not None:
            quoted = self.revision.replace("%", "%25").replace("@", "%40")
            text += f"@{quoted}" if re.fullmatch(_REFERENCE, quoted) else "@" + quoted.replace("/", "%2F")
        return f"{text}/{self.folder}" if self.folder else text


@dataclass(frozen=True)
class NamedModel:
    """A model of the registry.

    Attributes
    ----------
    name
        In lower case.
    """

    name: str

    def __str__(self) -> str:
        return f"{_NAMED}{self.name}"


Address = LocalFolder | HubRepository | NamedModel


def parse_address(text: str | Path) -> Address:
    """Return what an address means. Nothing is looked up.

    Parameters
    ----------
    text
        ``path/to/folder``, ``hf://owner/name[@revision][/folder]`` or ``scmodelforge://name``; schemes and names of the
        registry in any case. A slash in the name of a branch is written ``%2F``; ``refs/pr/1`` is taken as it is.

    Raises
    ------
    ConfigError
        If it is of another form.
    """
    if isinstance(text, Path):
        return LocalFolder(text)
    folder, given, text = text, text.strip(), text if text.isprintable() else repr(text)
    scheme = given[: given.find("://") + 3].lower() if "://" in given else ""
    rest = given[len(scheme) :]
    if scheme == _HUB:
        return _repository(text, rest)
    if scheme == _NAMED:
        if not re.fullmatch(_PART, rest):
            msg = (
                f"{text}: name a model, such as scmodelforge://geneformer-v2; 'scmodelforge models list --pretrained'."
            )
            raise ConfigError(msg)
        return NamedModel(rest.lower())
    if scheme:
        page = _PAGE.fullmatch(given)
        hint = f" Did you mean hf://{page['repo']}?" if page else ""
        msg = f"{text}: unknown scheme '{scheme}'; give a folder, hf://owner/name or scmodelforge://name.{hint}"
        raise ConfigError(msg)
    if not given:
        msg = "an empty address; give a folder, hf://owner/name or scmodelforge://name."
        raise ConfigError(msg)
    return LocalFolder(_expanded(folder))


def _repository(text: str, rest: str) -> HubRepository:
    found = _REPOSITORY.fullmatch(rest)
    if found is None:
        msg = f"{text}: an address on the hub is hf://owner/name, with @revision and /folder behind it if needed."
        raise ConfigError(msg)
    revision = found["revision"]
    try:
        return HubRepository(found["repo"], None if revision is None else unquote(revision), found["folder"] or "")
    except ConfigError as problem:
        msg = f"{text}: an address on the hub is hf://owner/name[@revision][/folder]. {problem}"
        raise ConfigError(msg) from problem


def _expanded(text: str) -> Path:
    """Return a path with the home folder in place of ``~``, which is one at the beginning only."""
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as problem:
        msg = f"{text}: there is no such home folder; write the path in full, or ./{text} for a folder of that name."
        raise ConfigError(msg) from problem
