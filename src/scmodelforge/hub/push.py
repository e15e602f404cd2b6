"""A model put on the Hugging Face hub, and loaded back from there before it counts.

Every file must be the one that was pushed, the weights the same to the bit, and some cells must get the same embeddings
and the same score (:mod:`scmodelforge.hub.push_check`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError, UserError
from scmodelforge.hub.addresses import Address, HubRepository, parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.checksums import digest_of
from scmodelforge.hub.faults import on_the_hub
from scmodelforge.hub.push_check import Trial, differences, try_model
from scmodelforge.hub.upload import OPTIONAL, Commit, Standing, Target, look_at, upload

__all__ = ["Pushed", "Target", "push_bundle", "repository_of"]


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
        If the hub or the network refuse, with word of what was made there; if what is loaded back is not what was
        pushed, or cannot be loaded back, with word of what stands on the hub now.
    """
    place = repository_of(target.repo_id)
    with tempfile.TemporaryDirectory(prefix="scmodelforge-") as name:
        own, back = Path(name, "own"), Path(name, "back")
        _save(own, bundle, card)
        saved = load_bundle(own)  # what it needs of its plugins was registered when the model was made or loaded
        trial = try_model(saved)
        standing = look_at(place, target)
        commit = upload(own, place, target, standing)
        address = f"hf://{place.repo_id}@{commit.revision}"
        stands = _stands(place, commit, standing)
        try:
            _download(place, commit.revision, back, target)
            found = _changed_files(own, back)
            if not found:
                found = differences(saved, load_bundle(back), trial)
            if not found and further is not None:
                found = further(back)
        except UserError as problem:
            msg = f"{address} was pushed and could not be loaded back, so do not use it: {problem} {stands}"
            raise DataError(msg) from problem
        if found:
            msg = (
                f"{address} is not the model that was pushed, so do not use this revision: loaded back it differs in "
                f"{'; '.join(found)}. {stands}"
            )
            raise DataError(msg)
        return Pushed(commit.url, commit.revision, len(_files(own)), trial)


def _stands(place: HubRepository, commit: Commit, standing: Standing) -> str:
    """Return what is on the hub after a push that does not count."""
    if standing.commit is None:
        before = "before it there was nothing"
    elif standing.commit == commit.revision:
        before = "and was it before, since no file has changed"
    else:
        before = f"before it there was hf://{place.repo_id}@{standing.commit}"
    return f"On the hub it is {commit.where} now; {before}. Push again, and delete this revision if it stays so."


def repository_of(name: str) -> HubRepository:
    """Return the repository that ``owner/name`` or ``hf://owner/name`` means.

    Raises
    ------
    ConfigError
        If it is no name of a repository.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    place: Address | None
    try:
        place = parse_address(name if "://" in name else f"hf://{name.strip()}")
        if isinstance(place, HubRepository):
            validate_repo_id(place.repo_id)
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
    _require_card(folder / "README.md")


def _require_card(path: Path) -> None:
    """Refuse a card that the hub would refuse, before anything is made there."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        metadata_load(path)
    except (ValueError, yaml.YAMLError) as problem:
        why = " ".join(str(problem).split())
        msg = f"nothing was pushed: the block at the top of the card, README.md, is no metadata ({why}); correct it."
        raise DataError(msg) from problem


def _download(place: HubRepository, revision: str, folder: Path, target: Target) -> None:
    from huggingface_hub import snapshot_download

    with on_the_hub(place, lambda reason: f"{reason}.", token=target.token):
        snapshot_download(place.repo_id, revision=revision, local_dir=folder, token=target.token)


def _changed_files(own: Path, other: Path) -> list[str]:
    """Return the files that are missing or not the same, and those of a model folder that should not be there."""
    ours, theirs = _files(own), _files(other)
    found = [name for name, digest in ours.items() if theirs.get(name) != digest]
    return found + [name for name in theirs if name not in ours and any(Path(name).match(each) for each in OPTIONAL)]


def _files(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files of a folder by their paths; what the hub's client keeps there is left out."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {name.as_posix(): digest_of(path) for path, name in names.items() if name.parts[0] != ".cache"}
