"""A model put on the Hugging Face hub, and loaded back from there before it counts.

Every file must be the one that was pushed, the weights the same to the bit, and some cells must get the same embeddings
and the same score (:mod:`scmodelforge.hub.push_check`).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError, RunError
from scmodelforge.hub.addresses import HubRepository, parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.faults import on_the_hub
from scmodelforge.hub.push_check import Trial, differences, try_model

__all__ = ["Pushed", "Target", "push_bundle", "repository_of"]

#: Files of a model folder that a model may have or not: of an earlier push they must go.
_OPTIONAL = ["tokenizer.safetensors", "trained_cells.safetensors", "plugins/*"]


@dataclass(frozen=True)
class Target:
    """Where a model is pushed to.

    Attributes
    ----------
    repo_id
        ``owner/name``; the repository is made if it is not there.
    token
        As the hub's client takes it; ``None`` is the one it finds.
    private
        Make a private repository; one that is there stays as it is.
    branch
        Branch, made of the main one if it is not there; ``None`` is the main one.
    message
        Message of the commit.
    force
        Replace a model that is not ours.
    """

    repo_id: str
    token: str | None = None
    private: bool | None = None
    branch: str | None = None
    message: str = "Model of scModelForge"
    force: bool = False


@dataclass(frozen=True)
class Pushed:
    """A push that counts.

    Attributes
    ----------
    url
        Address of the commit's page.
    revision
        The commit.
    num_files
        Files that were compared.
    trial
        What the model makes of the drawn cells, here and loaded back.
    """

    url: str
    revision: str
    num_files: int
    trial: Trial


def push_bundle(
    bundle: Bundle, card: str, target: Target, *, further: Callable[[Path], list[str]] | None = None
) -> Pushed:
    """Put a model on the hub, and load it back from there into a new folder.

    Parameters
    ----------
    bundle, card
        The model and its card.
    target
        Where to.
    further
        Another check of the folder that was loaded back: returns in words what is not as it should be.

    Raises
    ------
    ConfigError
        If the name is none.
    DataError
        If the hub or the network refuse; the repository is then as it was.
    RunError
        If what is loaded back is not what was pushed, or cannot be loaded back.
    """
    place = repository_of(target.repo_id)
    with tempfile.TemporaryDirectory(prefix="scmodelforge-") as name:
        own, back = Path(name, "own"), Path(name, "back")
        _save(own, bundle, card)
        saved = load_bundle(own, trust_plugins=True)
        trial = try_model(saved)
        with on_the_hub(place, lambda reason: f"hf://{place.repo_id}: nothing was pushed: {reason}; try again."):
            url, revision = _upload(own, place, target)
        where = f"hf://{place.repo_id}@{revision}"
        try:
            _download(place, revision, back, target)
            found = _changed_files(own, back)
            if not found:
                found = differences(saved, load_bundle(back, trust_plugins=True), trial)
            if not found and further is not None:
                found = further(back)
        except DataError as problem:
            msg = f"{where} was pushed and could not be loaded back, so do not use it: {problem}"
            raise RunError(msg) from problem
        if found:
            msg = (
                f"{where} is not the model that was pushed, so do not use this revision: loaded back it differs in "
                f"{'; '.join(found)}. Push again, and delete this revision if it stays so."
            )
            raise RunError(msg)
        return Pushed(url, revision, len(_files(own)), trial)


def repository_of(name: str) -> HubRepository:
    """Return the repository that ``owner/name`` or ``hf://owner/name`` means.

    Raises
    ------
    ConfigError
        If it is no name of a repository.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    plain = name.removeprefix("hf://").rstrip("/")
    try:
        place = parse_address(f"hf://{plain}")
        validate_repo_id(plain)
    except (ConfigError, HFValidationError):
        place = None
    if not isinstance(place, HubRepository) or place.revision is not None or place.folder:
        msg = f"'{name}' is no folder here and no name of a repository; on the hub they are called owner/name."
        raise ConfigError(msg)
    return place


def _save(folder: Path, bundle: Bundle, card: str) -> None:
    from safetensors import SafetensorError

    try:
        save_bundle(folder, bundle, card=card)
    except (OSError, SafetensorError) as problem:
        msg = f"nothing was pushed: cannot write to {folder} ({problem}); set TMPDIR to a folder with room for two."
        raise DataError(msg) from problem


def _upload(folder: Path, place: HubRepository, target: Target) -> tuple[str, str]:
    from huggingface_hub import HfApi

    api = HfApi(token=target.token)
    api.create_repo(place.repo_id, private=target.private, exist_ok=True)
    if not target.force:
        _check_replaceable(place, target)
    if target.branch is not None:
        api.create_branch(place.repo_id, branch=target.branch, exist_ok=True)
    commit = api.upload_folder(
        repo_id=place.repo_id,
        folder_path=folder,
        revision=target.branch,
        commit_message=target.message,
        delete_patterns=_OPTIONAL,
    )
    return str(commit.commit_url), str(commit.oid)


def _check_replaceable(place: HubRepository, target: Target) -> None:
    """Refuse to push over a model that is not ours."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        path = hf_hub_download(place.repo_id, "config.json", revision=target.branch, token=target.token)
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except LocalEntryNotFoundError:  # it is not known what is there
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
        return
    except ValueError:
        found = None
    if not isinstance(found, dict) or "format_version" not in found:
        msg = f"hf://{place.repo_id} holds a model of another kind; choose another repository, or replace it (--force)."
        raise DataError(msg)


def _download(place: HubRepository, revision: str, folder: Path, target: Target) -> None:
    from huggingface_hub import snapshot_download

    with on_the_hub(place, lambda reason: f"{reason}; push it again."):
        snapshot_download(place.repo_id, revision=revision, local_dir=folder, token=target.token)


def _changed_files(own: Path, other: Path) -> list[str]:
    """Return the files that are missing or not the same, and those of a model folder that should not be there."""
    ours, theirs = _files(own), _files(other)
    found = [name for name, digest in ours.items() if theirs.get(name) != digest]
    return found + [name for name in theirs if name not in ours and any(Path(name).match(each) for each in _OPTIONAL)]


def _files(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files of a folder by their paths; what the hub's client keeps there is left out."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {name.as_posix(): _sha256(path) for path, name in names.items() if name.parts[0] != ".cache"}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
