"""The writing half of a push: what stands on the hub is looked at first, and nothing is made there before that."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import HubRepository
from scmodelforge.hub.faults import on_the_hub
from scmodelforge.hub.tokens import require_token_to_write

__all__ = ["OPTIONAL", "Commit", "Standing", "Target", "look_at", "upload"]

#: Files of a model folder that a model may have or not: of an earlier push they must go.
OPTIONAL = ("tokenizer.safetensors", "trained_cells.safetensors", "plugins/*")


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
        Make a private repository; one that is there stays as it is, and is refused if it is public.
    branch
        Branch, made of the main one if it is not there; ``None`` is the main one.
    message
        Message of the commit.
    force
        Replace a model that is not ours.
    as_pull_request
        Leave the branch as it is, and propose the commit to the owners of the repository.
    delete
        Patterns of further files in the repository that are deleted.
    """

    repo_id: str
    token: str | bool | None = field(default=None, repr=False)
    private: bool | None = None
    branch: str | None = None
    message: str = "Model of scModelForge"
    force: bool = False
    as_pull_request: bool = False
    delete: Sequence[str] = ()


@dataclass(frozen=True)
class Standing:
    """What is on the hub before a push.

    Attributes
    ----------
    is_there
        Whether the repository can be seen.
    commit
        What the branch has; ``None`` if there is no such branch.
    """

    is_there: bool
    commit: str | None = None


@dataclass(frozen=True)
class Commit:
    """What was pushed.

    Attributes
    ----------
    url
        Address of its page.
    revision
        The commit.
    where
        What points to it, in words.
    """

    url: str
    revision: str
    where: str


def look_at(place: HubRepository, target: Target) -> Standing:
    """Return what is on the hub; nothing is changed there.

    Raises
    ------
    ConfigError
        If there is no token.
    DataError
        If the hub or the network refuse, the repository holds a model of another kind, or it is public and should not
        be.
    """
    require_token_to_write(target.token)
    with on_the_hub(place, lambda reason: _nothing(place, reason), token=target.token):
        return _look_at(place, target)


def _look_at(place: HubRepository, target: Target) -> Standing:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(token=target.token)
    try:
        info = api.model_info(place.repo_id, revision=target.branch)
    except RevisionNotFoundError:
        info, commit = api.model_info(place.repo_id), None
    except RepositoryNotFoundError:
        return Standing(is_there=False)
    else:
        commit = info.sha
    if target.private and info.private is False:
        msg = f"hf://{place.repo_id} is there and public; make it private on its page first, or choose another name."
        raise DataError(msg)
    names = [each.rfilename for each in info.siblings or []]
    if commit is not None and not target.force and "config.json" in names:
        _require_ours(place, commit, target)
    return Standing(is_there=True, commit=commit)


def _require_ours(place: HubRepository, commit: str, target: Target) -> None:
    """Refuse to push over a model that is not ours."""
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory(prefix="scmodelforge-") as name:  # in the cache it would be part of a model
        path = hf_hub_download(place.repo_id, "config.json", revision=commit, token=target.token, local_dir=name)
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:
            found = None
    if not isinstance(found, dict) or "format_version" not in found:
        msg = f"hf://{place.repo_id} holds a model of another kind; choose another repository, or replace it (--force)."
        raise DataError(msg)


def upload(folder: Path, place: HubRepository, target: Target, standing: Standing) -> Commit:
    """Put a folder into a repository, as one commit.

    Raises
    ------
    DataError
        If the hub or the network refuse. The files in the repository are then as they were; the message says if the
        repository is new.
    """
    made: list[str] = []
    try:
        with on_the_hub(place, lambda reason: _nothing(place, reason), token=target.token):
            return _upload(folder, place, target, standing, made)
    except DataError as problem:
        if not made:
            raise
        msg = f"{problem} On the hub there is now {' and '.join(made)}, with nothing of the model."
        raise DataError(msg) from problem


def _upload(folder: Path, place: HubRepository, target: Target, standing: Standing, made: list[str]) -> Commit:
    from huggingface_hub import HfApi

    api = HfApi(token=target.token)
    if not standing.is_there:
        api.create_repo(place.repo_id, private=target.private, exist_ok=True)
        made.append(f"the new repository {place.repo_id}")
    if target.branch is not None and standing.commit is None and not target.as_pull_request:
        api.create_branch(place.repo_id, branch=target.branch, exist_ok=True)
        made.append(f"the new branch '{target.branch}'")
    commit = api.upload_folder(
        repo_id=place.repo_id,
        folder_path=folder,
        revision=target.branch,
        commit_message=target.message,
        create_pr=target.as_pull_request or None,
        delete_patterns=[*OPTIONAL, *target.delete],
    )
    where = f"branch '{target.branch or 'main'}'"
    if target.as_pull_request:
        where = f"pull request {commit.pr_url or ''}".rstrip()
    return Commit(str(commit.commit_url), str(commit.oid), where)


def _nothing(place: HubRepository, reason: str) -> str:
    advice = "unset it where there is a network, and push again" if "HF_HUB_OFFLINE" in reason else "try again"
    return f"hf://{place.repo_id}: nothing was pushed: {reason}; {advice}."
