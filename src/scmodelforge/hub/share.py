"""Models of ours on the Hugging Face hub, through its own mixin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin
from safetensors import SafetensorError

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.hub.addresses import Address, HubRepository, parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push import Target, push_bundle, repository_of

__all__ = ["SharedModel"]

#: Fields of a target by the names that the mixin gives them, and what would leave out files of a model.
_OPTIONS = {
    "commit_message": "message",
    "private": "private",
    "token": "token",
    "branch": "branch",
    "create_pr": "as_pull_request",
    "delete_patterns": "delete",
    "force": "force",
}
_PARTIAL = ("allow_patterns", "ignore_patterns")


class SharedModel(ModelHubMixin, library_name="scmodelforge", tags=["single-cell", "transcriptomics"]):
    """A model with all it needs, to be saved, shared and loaded as the hub's users know it.

    Parameters
    ----------
    bundle
        The model.
    card
        Text of its model card, ``README.md``; ``None`` is one that gives no more than the model's name and address.

    Attributes
    ----------
    bundle, card
        As given.
    """

    #: The settings are the bundle's: nothing of the arguments is written into ``config.json``.
    _hub_mixin_config: dict[str, Any] = {}  # noqa: RUF012 - as the mixin declares it

    def __init__(self, bundle: Bundle, card: str | None = None) -> None:
        self.bundle = bundle
        self.card = card if card is not None else _plain_card(bundle)

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        config: Mapping[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write a model folder, and put the model on the hub as well if asked to.

        Parameters
        ----------
        save_directory
            Folder to write to; its files are replaced.
        config, model_card_kwargs
            Refused: settings and card are the model's own.
        repo_id
            With ``push_to_hub``: ``owner/name``.
        push_to_hub
            Call :meth:`push_to_hub` once the folder is written.
        push_to_hub_kwargs
            Its arguments.

        Returns
        -------
        Address of the commit's page, ``None`` if nothing was pushed.

        Raises
        ------
        ConfigError
            If an argument cannot be honoured; nothing is written then.
        DataError
            If the folder cannot be written, or as of :func:`~scmodelforge.hub.push.push_bundle`.
        """
        _refuse_settings(config, model_card_kwargs)
        folder = Path(save_directory)
        if push_to_hub:
            if repo_id is None:
                msg = f"repo_id is not given, and '{folder.name}' alone is no repository; give repo_id='owner/name'."
                raise ConfigError(msg)
            target = _target(repo_id, **push_to_hub_kwargs)
            repository_of(repo_id)
        elif repo_id is not None or push_to_hub_kwargs:
            names = ", ".join([*(["repo_id"] if repo_id is not None else []), *push_to_hub_kwargs])
            msg = f"{names}: for the hub only; add push_to_hub=True, or leave it out."
            raise ConfigError(msg)
        try:
            self._save_pretrained(folder)
        except (OSError, SafetensorError) as problem:
            msg = f"cannot write to {folder} ({problem}); choose a folder you may write to."
            raise DataError(msg) from problem
        return push_bundle(self.bundle, self.card, target).url if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        save_bundle(Path(save_directory), self.bundle, card=self.card)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        trust_plugins: bool = False,
        **model_kwargs: Any,
    ) -> Self:
        """Load a model of ours.

        Parameters
        ----------
        pretrained_model_name_or_path
            A model or run folder, ``owner/name`` on the hub, or an address as of
            :func:`~scmodelforge.hub.addresses.parse_address`.
        force_download
            Fetch from the hub again what is in the cache. Of a folder on this machine nothing is fetched.
        token
            As the hub's client takes it.
        cache_dir
            Folder of the cache; ``None`` is the usual one, or ``HF_HUB_CACHE``.
        local_files_only
            Look on this machine only.
        revision
            Branch, tag or commit on the hub.
        trust_plugins
            Import the Python files the folder names. They can run anything; without this they are refused.
        model_kwargs
            Refused: a model is made of its folder alone.

        Raises
        ------
        ConfigError, DataError
            As of :func:`~scmodelforge.hub.locate.locate` and :func:`~scmodelforge.hub.bundle.load_bundle`.
        """
        if model_kwargs:
            known = ("force_download", "token", "cache_dir", "local_files_only", "revision", "trust_plugins")
            hint = nearest(next(iter(model_kwargs)), known)
            msg = (
                f"{', '.join(model_kwargs)}: a model is made of its folder, and takes no settings; leave it out.{hint}"
            )
            raise ConfigError(msg)
        if force_download and local_files_only:
            msg = "force_download fetches and local_files_only forbids it; give one of them."
            raise ConfigError(msg)
        found = locate(
            _place(pretrained_model_name_or_path, revision),
            offline=local_files_only,
            token=token,
            cache=None if cache_dir is None else Path(cache_dir).expanduser(),
            anew=force_download,
        )
        bundle = load_bundle(found.folder, trust_plugins=trust_plugins)
        card = found.folder / "README.md"
        return cls(bundle, card.read_text(encoding="utf-8") if card.is_file() else None)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        config: Mapping[str, Any] | None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Put the model on the hub, and load it back from there.

        Parameters
        ----------
        repo_id
            ``owner/name``; the repository is made if it is not there.
        config, model_card_kwargs
            Refused: settings and card are the model's own.
        options
            ``commit_message``, ``private``, ``token``, ``branch``, ``force`` as of
            :class:`~scmodelforge.hub.upload.Target`; ``create_pr`` proposes the commit to the owners and leaves the
            branch as it is; ``delete_patterns`` are further files to delete in the repository. ``allow_patterns`` and
            ``ignore_patterns`` are refused: a model is pushed whole.

        Returns
        -------
        Address of the commit's page.

        Raises
        ------
        ConfigError
            If an argument cannot be honoured; nothing is asked of the hub then.
        DataError
            As of :func:`~scmodelforge.hub.push.push_bundle`.
        """
        _refuse_settings(config, model_card_kwargs)
        return push_bundle(self.bundle, self.card, _target(repo_id, **options)).url

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of the model; arguments for a template are refused, since there is none."""
        _refuse_settings(None, args or kwargs)
        return ModelCard(self.card)


def _place(name: str | Path, revision: str | None) -> Address:
    is_address = isinstance(name, Path) or "://" in name or name.startswith("~") or Path(name).is_dir()
    place = parse_address(name) if is_address else repository_of(str(name))
    if revision is None:
        return place
    if not isinstance(place, HubRepository) or place.revision not in (None, revision):
        msg = f"revision is '{revision}', and {name} has none or another one; give it once, of a repository."
        raise ConfigError(msg)
    return replace(place, revision=revision)


def _target(repo_id: str, **options: Any) -> Target:
    """Return where a model is pushed to, of arguments as the mixin names them."""
    unknown = [name for name in options if name not in (*_OPTIONS, *_PARTIAL)]
    if unknown:
        msg = f"push_to_hub has no argument '{unknown[0]}'.{nearest(unknown[0], _OPTIONS)}"
        raise ConfigError(msg)
    partial = [name for name in _PARTIAL if options.get(name) is not None]
    if partial:
        msg = f"{', '.join(partial)}: a model is pushed whole, since part of one cannot be loaded back; leave it out."
        raise ConfigError(msg)
    given = {_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS and value is not None}
    delete = given.get("delete", ())
    return Target(repo_id, **given | {"delete": [delete] if isinstance(delete, str) else list(delete)})


def _refuse_settings(config: object, model_card_kwargs: object) -> None:
    if config:
        msg = "config: the settings are those of the model, and are written with it; leave it out."
        raise ConfigError(msg)
    if model_card_kwargs:
        msg = (
            "model_card_kwargs: the card is made of the model, not of a template; give it as SharedModel(bundle, card)."
        )
        raise ConfigError(msg)


def _plain_card(bundle: Bundle) -> str:
    tags = "[single-cell, transcriptomics]"
    title = f"{bundle.model_config.architecture} ({bundle.model_id})"
    return f"---\nlibrary_name: scmodelforge\ntags: {tags}\n---\n\n# {title}\n"
