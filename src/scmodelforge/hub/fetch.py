"""Files of a repository in the cache of the hub's client: fetched, or taken as they are if the hub does not give them.

What is in the cache is used without a word only where nobody is asked (offline), or where it cannot have changed (a
commit). If the hub was asked and did not answer as it should, a warning says which commit is used, and why.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.hub.addresses import HubRepository
from scmodelforge.hub.faults import explained, on_the_hub
from scmodelforge.hub.tokens import require_token

__all__ = ["Fetch", "Wanted"]

_log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_NAMES = 3


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched.

    Attributes
    ----------
    place
        Repository and revision.
    address
        What the user calls it.
    files
        Patterns of the files; none for all.
    absent
        Makes the message for files that are neither here nor to be had now, of the reason.
    """

    place: HubRepository
    address: str
    files: Sequence[str]
    absent: Callable[[str], str]


@dataclass(frozen=True)
class Fetch:
    """How files are fetched.

    Attributes
    ----------
    offline
        Look on this machine only; so does ``HF_HUB_OFFLINE``.
    endpoint
        Address of the hub; ``None`` is the usual one, or ``HF_ENDPOINT``.
    token
        As the hub's client takes it; ``None`` is the one it finds.
    cache
        Folder of the cache; ``None`` is the usual one, or ``HF_HUB_CACHE``.
    anew
        Fetch what is in the cache again; what is there then serves for nothing.
    """

    offline: bool = False
    endpoint: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache: Path | None = None
    anew: bool = False

    def snapshot(self, wanted: Wanted) -> Path:
        """Return the folder of a repository in the cache, with the files that are wanted.

        Raises
        ------
        ConfigError
            If the token cannot be one.
        DataError
            If the files are not here, or not all of them, and cannot be fetched.
        """
        from huggingface_hub import constants

        if self.offline or constants.HF_HUB_OFFLINE:
            reason = "only this machine was looked on" if self.offline else "HF_HUB_OFFLINE is set"
            kept = self._kept(wanted, f"{wanted.address}: {reason}.")
            if kept is None:
                raise DataError(wanted.absent(reason))
            return kept
        require_token(self.token)
        return self._commit_that_is_here(wanted) or self._asked(wanted)

    def _asked(self, wanted: Wanted) -> Path:
        """Return what the hub gives; if it does not answer, what is in the cache, with a warning."""
        from huggingface_hub import HfApi

        place = wanted.place
        try:
            api = HfApi(endpoint=self.endpoint, token=self.token, library_name="scmodelforge")
            # The client goes to its cache without a word if it is not this that fails.
            commit = api.model_info(place.repo_id, revision=place.revision).sha
        except Exception as problem:
            why = explained(problem, place, lambda reason: f"{wanted.address}: {reason}.", token=self.token)
            if why is None:
                raise
            kept = self._kept(wanted, why) if self._may_be_kept(problem) else None
            if kept is None:
                raise DataError(explained(problem, place, wanted.absent, token=self.token)) from problem
            _log.warning(
                f"{why} Commit {kept.name} in the cache of this machine is used; the hub may have a newer one."
            )
            return kept
        root = self._downloaded(wanted)
        if root.name != commit or _missing(wanted, root, self.cache):
            msg = f"{wanted.address}: the hub stopped answering before all was fetched; repeat the command."
            raise DataError(msg)
        return root

    def _downloaded(self, wanted: Wanted) -> Path:
        from huggingface_hub import snapshot_download

        with on_the_hub(wanted.place, wanted.absent, token=self.token):
            found = snapshot_download(
                wanted.place.repo_id,
                revision=wanted.place.revision,
                allow_patterns=list(wanted.files) or None,
                cache_dir=self.cache,
                force_download=self.anew,
                endpoint=self.endpoint,
                token=self.token,
                library_name="scmodelforge",
            )
        return Path(found)

    def _may_be_kept(self, problem: Exception) -> bool:
        """Tell whether the cache may serve: not if the hub answered that there is no such thing."""
        from huggingface_hub import errors

        return not self.anew and not isinstance(problem, errors.RevisionNotFoundError | errors.HFValidationError)

    def _commit_that_is_here(self, wanted: Wanted) -> Path | None:
        """Return the files of a commit, which never change, if all of them are known to be in the cache."""
        is_commit = _COMMIT.fullmatch(wanted.place.revision or "") is not None
        root = self._in_cache(wanted.place) if is_commit and not self.anew else None
        return root if root is not None and _missing(wanted, root, self.cache) == [] else None

    def _kept(self, wanted: Wanted, why: str) -> Path | None:
        """Return what is in the cache, ``None`` if nothing is; refuse what is not whole."""
        root = self._in_cache(wanted.place)
        if root is None:
            return None
        missing = _missing(wanted, root, self.cache)
        if missing is None:
            missing = _missing_of_ours(root / wanted.place.folder)
        if missing:
            variable = "" if self.cache is None else f"HF_HUB_CACHE={shlex.quote(str(self.cache))} "
            msg = (
                f"{why} Commit {root.name} is not whole on this machine (missing: {listed(missing, _MOST_NAMES)}); "
                f"when the hub can be asked, fetch the rest: {variable}scmodelforge hub pull "
                f"{shlex.quote(wanted.address)}"
            )
            raise DataError(msg)
        return root

    def _in_cache(self, place: HubRepository) -> Path | None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        storage = Path(self.cache or constants.HF_HUB_CACHE) / repo_folder_name(
            repo_id=place.repo_id, repo_type="model"
        )
        revision = place.revision or "main"
        name = storage / "refs" / revision
        commit = name.read_text(encoding="utf-8").strip() if name.is_file() else revision
        root = storage / "snapshots" / commit
        return root if _COMMIT.fullmatch(commit) and root.is_dir() else None


def _missing(wanted: Wanted, root: Path, cache: Path | None) -> list[str] | None:
    """Return the files of a snapshot that are not here; ``None`` if it is not known which there should be."""
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import filter_repo_objects

    if not hasattr(huggingface_hub, "get_cached_repo_tree"):  # of older clients
        return None
    try:
        tree = huggingface_hub.get_cached_repo_tree(wanted.place.repo_id, revision=root.name, cache_dir=cache)
    except errors.CachedRepoTreeNotFoundError:
        return None
    paths = filter_repo_objects([each.path for each in tree], allow_patterns=list(wanted.files) or None)
    return [path for path in paths if not (root / path).is_file()]


def _missing_of_ours(folder: Path) -> list[str]:
    """Return the files that a model folder of ours lacks, of which not all may have been fetched."""
    from scmodelforge.hub.bundle import FILES

    try:
        is_ours = "format_version" in read_json_object(folder / "config.json", "")
    except DataError:
        is_ours = False
    return [name for name in FILES if not (folder / name).is_file()] if is_ours else []
